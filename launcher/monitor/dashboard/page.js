'use strict';

// Asks for what is new, and shows it.

const kStates = {
  RUNNING: 'good', SUCCEEDED: 'good', FAILED: 'bad', CANCELLED: 'bad',
  STOPPING: 'warn', RESTARTING: 'warn', SAVING: 'warn', PREEMPTED: 'warn',
};
const kRankStates = {
  running: 'good', done: 'good', failed: 'bad', lost: 'bad', stopped: 'warn',
};
const kMarks = {good: '\u25cf', bad: '\u2716', warn: '\u25b2', idle: '\u25cb'};
const kBetween = 1000, kBehind = 50;  // milliseconds
const kSilent = 5;  // times its step's time, and 10 s

let charts, loads, transitions, run, routing, version = -1, logText = '';
let loadStep = null;  // that is looked at; null: the newest

async function ask(path) {
  const response = await fetch(path, {cache: 'no-cache'});
  if (!response.ok) throw new Error(path + ': ' + response.status);
  return response;
}

function exposedShare() {
  const rank = run.ranks[0];
  return run.ranks.length > 1 && rank.step_seconds > 0
      ? rank.exposed_seconds / rank.step_seconds : NaN;
}

function showHeader() {
  byId('name').textContent = run.name;
  document.title = run.name + ' \u00b7 ' + run.state.toLowerCase();
  const kind = kStates[run.state] || 'idle';
  byId('state').textContent = kMarks[kind] + ' ' + run.state.toLowerCase();
  byId('state').className = 'pill ' + kind;
  byId('host').textContent = run.host ? 'on ' + run.host : '';
  const step = run.newest ? run.newest.step : 0;
  byId('progress').max = Math.max(1, run.steps);
  byId('progress').value = Math.min(step, Math.max(1, run.steps));
  const eta = run.eta_seconds > 0
      ? ', ' + humanSeconds(run.eta_seconds) + ' to go' : '';
  byId('steps').textContent = run.read < 0.999
      ? 'reading, ' + percent(run.read)
      : `step ${step}${run.steps ? ' of ' + run.steps : ''}${eta}`;
}

function showTiles() {
  const n = run.newest || {};
  const saved = run.checkpoint_step > 0
      ? [run.ended ? 'saved'
                   : 'saved ' + (run.checkpoint_age_seconds < 1 ? 'just now'
                       : humanSeconds(run.checkpoint_age_seconds) + ' ago'),
         'step ' + run.checkpoint_step]
      : ['saved', 'not yet'];
  const tiles = [
    ['loss', digits(n.loss, 4)], ['validation', digits(n.validation_loss, 4)],
    ['tokens/s', humanNumber(n.tokens_per_second)], ['MFU', percent(n.mfu)],
    ['exposed', percent(exposedShare())],
    ['tokens', humanNumber(n.tokens_total)],
    ['ranks', String(run.ranks.length)],
    ['restarts', String((run.restarts || []).length)], saved];
  byId('tiles').replaceChildren(...tiles.map(([name, value]) => {
    const tile = element('div');
    tile.append(element('dt', name), element('dd', value));
    return tile;
  }));
}

function showFailure() {
  const failure = run.state === 'FAILED' ? run.first_failure : null;
  byId('failure').hidden = !failure;
  if (!failure) return;
  byId('failure-text').textContent =
      (failure.rank >= 0 ? `rank ${failure.rank} on ${failure.host} ` : '') +
      failure.text + (run.exit_code ? `; exit code ${run.exit_code}` : '');
  byId('failure-words').textContent = failure.last_words || '';
}

function stateCell(rank) {
  let state = rank.state;
  let kind = kRankStates[state] || 'idle';
  const quiet = Math.max(10, kSilent * rank.step_seconds);
  if (!run.ended && state === 'running' && rank.age_seconds > quiet) {
    state = 'silent';
    kind = 'warn';
  }
  return element('td', kMarks[kind] + ' ' + state, kind);
}

function showRanks() {
  const fastest = run.ranks.find(rank => rank.straggler === 1);
  byId('ranks').replaceChildren(...run.ranks.map(rank => {
    const row = element('tr');
    const share = rank.step_seconds > 0
        ? percent(rank.exposed_seconds / rank.step_seconds) : 'n/a';
    const slow = rank.straggler > 1.2;
    const slowness = element(
        'td', (slow ? '\u25b2 ' : '') + digits(rank.straggler, 2),
        slow ? 'warn' : '');
    if (slow) slowness.title = `slower than rank ${fastest.rank}`;
    row.append(
        element('td', rank.rank), stateCell(rank), element('td', rank.step),
        element('td', run.ended ? '' : humanSeconds(rank.age_seconds)),
        element('td', humanSeconds(rank.step_seconds)), element('td', share),
        slowness, element('td', humanBytes(rank.memory_bytes)));
    return row;
  }));
}

function showEvents() {
  const lines = (run.restarts || []).map((restart, i) => [
    restart.step || 0, 'bad',
    `restart ${i + 1}: ` +
        (restart.rank >= 0 ? `rank ${restart.rank} ` : '') + restart.text]);
  for (const event of run.events) {
    const good = event.event === 'checkpoint';
    lines.push([event.step, good ? 'good' : 'warn',
                event.event.replaceAll('_', ' ') +
                (event.reason ? ': ' + event.reason : '')]);
  }
  lines.sort((a, b) => b[0] - a[0]);
  byId('events').replaceChildren(...lines.map(([step, kind, text]) => {
    const item = element('li');
    item.append(element('span', kMarks[kind] + ' ', kind),
                element('span', `step ${step} `, 'dim'), text);
    return item;
  }));
  if (!lines.length) {
    byId('events').append(element('li', 'none so far', 'dim'));
  }
}

function routers(layers) {
  const all = [];
  layers.forEach((iterations, l) => iterations.forEach(
      (values, t) => all.push([l, t, values])));
  return all;
}

function showLoad() {
  const list = routing.snapshots;
  byId('load-card').hidden = !list.length;
  if (!list.length) return;
  const slider = byId('load-slider');
  slider.max = list.length - 1;
  // Steps are left out as a run gets longer, and the others move.
  const later = loadStep === null ? -1 : list.findIndex(
      snapshot => snapshot.step >= loadStep);
  slider.value = later < 0 ? slider.max : later;
  const snapshot = list[slider.value];
  byId('load-step').textContent = snapshot.step;
  slider.setAttribute('aria-valuetext', 'step ' + snapshot.step);
  loads.routers = routers(snapshot.load);
  loads.show(loads.routers.map(([, , values]) => overMean(values)),
             loads.routers.map(([l, t]) => `L${l} i${t}`),
             `Load of each expert at step ${snapshot.step}.`);
}

function chooseLoad() {
  const slider = byId('load-slider');
  loadStep = slider.value === slider.max
      ? null : routing.snapshots[slider.value].step;
  showLoad();
}

function showTransitions() {
  const all = routers(routing.transitions);
  byId('transitions-card').hidden = !all.length;
  if (!all.length) return;
  const select = byId('transitions-select');
  while (select.length < all.length) {
    const [l, t] = all[select.length];
    select.add(new Option(`L${l} i${t} \u2192 i${t + 1}`));
  }
  const [, , flat] = all[Math.min(select.selectedIndex, all.length - 1)];
  transitions.counts = flat;
  const rows = overIndependent(flat);
  transitions.show(rows, rows.map((_, r) => String(r)),
                   'Transitions between experts.');
}

function showLogChoices() {
  const select = byId('log-select');
  const names = run.ranks.map(rank => [`rank ${rank.rank}`, rank.rank]);
  if (run.generation > 0) names.unshift(['launcher', 'launcher']);
  if (select.length === names.length) return;
  const chosen = select.value || '0';
  select.replaceChildren(...names.map(([text, value]) =>
      new Option(text, value)));
  select.value = chosen;
}

async function showLog() {
  const chosen = byId('log-select').value;
  const text = await (await ask('/api/log/' + chosen)).text();
  // Another one may have been chosen meanwhile.
  if (text === logText || chosen !== byId('log-select').value) return;
  logText = text;
  byId('log').textContent = text;
  followLog();
}

function followLog() {
  const log = byId('log');
  if (byId('log-follow').checked) log.scrollTop = log.scrollHeight;
}

async function refresh() {
  run = await (await ask('/api/run')).json();
  showHeader();
  showTiles();
  showFailure();
  showRanks();
  showEvents();
  showLogChoices();
  await showLog();
  if (run.version === version) return;
  charts.draw(await (await ask('/api/series')).json());
  routing = await (await ask('/api/routing')).json();
  showLoad();
  showTransitions();
  version = run.version;
  document.body.dataset.drawn = 'yes';
}

async function poll() {
  let wait = kBetween;
  try {
    if (!document.hidden) {
      await refresh();
      if (run.read < 0.999) wait = kBehind;
    }
    byId('problem').textContent = '';
  } catch (problem) {
    byId('problem').textContent = 'not answered: ' + problem.message;
  }
  setTimeout(poll, wait);
}

charts = new Charts();
loads = new HeatMap('load', (row, column, ratio) =>
    `layer ${loads.routers[row][0]}, iteration ${loads.routers[row][1]}, ` +
    `expert ${column}: ${loads.routers[row][2][column]} choices, ` +
    `${digits(ratio, 2)} of the mean`);
transitions = new HeatMap('transitions', (row, column, ratio) =>
    `expert ${row}, then ${column}: ` +
    `${transitions.counts[row * transitions.columns() + column]} choices, ` +
    `${digits(ratio, 2)} times as many as independent ones`);
transitions.square = true;
transitions.most = 28;
loads.most = 88;
byId('load-slider').addEventListener('input', chooseLoad);
byId('transitions-select').addEventListener('change', showTransitions);
byId('log-select').addEventListener('change', showLog);
byId('log-follow').addEventListener('change', followLog);
addEventListener('resize', followLog);
poll();
