'use strict';

// Curves over steps, drawn by Chart.js.

const kLines = ['#2f6fde', '#d66800', '#1a8f5a', '#a045c9'];
const kLinesDark = ['#6ea4ff', '#ff9838', '#4fc98c', '#cf8cf0'];
// Of the step's time: work, then a wait for each exchange.
const kPhases = [
  ['exposed_plan', 'plan'], ['exposed_dispatch', 'dispatch'],
  ['exposed_combine', 'combine'],
  ['exposed_combine_gradient', 'combine, back'],
  ['exposed_dispatch_gradient', 'dispatch, back'],
  ['exposed_gradients', 'gradients'], ['exposed_parameters', 'parameters'],
  ['exposed_control', 'control']];
const kPhaseColors = ['#8f6bd8', '#d66800', '#e39a2d', '#c4458b', '#df7fb0',
                      '#1a8f5a', '#62b58d', '#8a929c'];

const dark = matchMedia('(prefers-color-scheme: dark)');

function lineColor(i) { return (dark.matches ? kLinesDark : kLines)[i]; }

function points(steps, values) {
  const result = [];
  for (let i = 0; i < steps.length; ++i) {
    if (isNumber(values[i])) result.push({x: steps[i], y: values[i]});
  }
  return result;
}

function axis(title, position, format) {
  return {
    type: 'linear', position, title: {display: !!title, text: title},
    grid: {drawOnChartArea: position !== 'right'}, grace: '5%',
    ticks: {maxTicksLimit: 6, callback: format || humanNumber},
  };
}

// What a chart shows, for those who do not see it.
function summary(chart) {
  const lines = chart.data.datasets.map(({label, data}) => {
    const last = data[data.length - 1];
    return `${label} ${humanNumber(last.y)} at step ${last.x}, of ` +
        `${data.length} points`;
  });
  return `${chart.label}: ${lines.join('; ') || 'nothing yet'}`;
}

// The newest step has a number only where that leaves room for the one before.
function dropCrowdedEnd(axis) {
  const [end, before, other] = axis.ticks.slice(-3).reverse().map(t => t.value);
  if (end - before < before - other) axis.ticks.pop();
}

// Of the sort of 7.5e-3.
function power(value) {
  return value === 0 ? '0' : Number(value.toPrecision(2)).toExponential();
}

function makeChart(id, label, scales) {
  const chart = new Chart(byId(id), {
    type: 'line',
    data: {datasets: []},
    options: {
      animation: false, parsing: false, normalized: true,
      responsive: true, maintainAspectRatio: false,
      interaction: {mode: 'index', axis: 'x', intersect: false},
      elements: {point: {radius: 0, hitRadius: 8}, line: {borderWidth: 1.5}},
      plugins: {
        legend: {labels: {boxWidth: 12, boxHeight: 2}, position: 'bottom'},
        tooltip: {callbacks: {title: items =>
            items.length ? 'step ' + items[0].parsed.x : ''}},
      },
      scales: Object.assign({x: {
        type: 'linear', bounds: 'data', grid: {display: false},
        min: 0, afterBuildTicks: dropCrowdedEnd,
        ticks: {maxTicksLimit: 8, maxRotation: 0, precision: 0},
      }}, scales),
    },
  });
  chart.label = label;
  return chart;
}

class Charts {
  constructor() {
    const one = {y: axis('', 'left')};
    this.all = {
      loss: makeChart('loss', 'Loss over steps', one),
      speed: makeChart('speed', 'Tokens a second and MFU over steps', {
        y: axis('', 'left'), mfu: axis('', 'right', percent)}),
      time: makeChart('time', 'Seconds of a step over steps, stacked', {
        y: Object.assign(axis('', 'left', v => Number(v.toPrecision(3)) + ' s'),
                         {stacked: true, min: 0})}),
      balance: makeChart('balance', 'Busiest over mean, over steps', one),
      gradient: makeChart('gradient', 'Gradient norm over steps', {
        y: axis('', 'left'),
        // A line that is level would have an axis from -1 to 1 about it.
        rate: {...axis('', 'right', power), min: 0}}),
      memory: makeChart('memory', 'Resident memory over steps', one),
    };
    byId('loss-log').addEventListener('change', event => {
      this.all.loss.options.scales.y.type =
          event.target.checked ? 'logarithmic' : 'linear';
      this.all.loss.update();
    });
    dark.addEventListener('change', () => this.draw(this.series));
  }

  line(name, i, values, more) {
    const data = points(this.series.step, values);
    return Object.assign({label: name, data, borderColor: lineColor(i),
                          backgroundColor: lineColor(i)}, more);
  }

  stack(name, values, tone) {
    return {label: name, data: points(this.series.step, values),
            borderColor: tone, backgroundColor: tone, fill: true,
            borderWidth: 0};
  }

  timeLines() {
    const s = this.series;
    const work = s.step_seconds.map(
        (v, i) => isNumber(v) ? v - (s.exposed[i] || 0) : null);
    const lines = [this.stack('work', work, lineColor(0))];
    kPhases.forEach(([key, name], i) => {
      if (s[key].some(v => v > 0)) {
        lines.push(this.stack(name, s[key], kPhaseColors[i]));
      }
    });
    return lines;
  }

  draw(series) {
    if (!series) return;
    this.series = series;
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.color = color('--dim');
    Chart.defaults.borderColor = color('--line');
    const validation = {
      label: 'validation', borderColor: lineColor(1),
      backgroundColor: lineColor(1), pointRadius: 3, clip: false,
      data: points(series.validation.step, series.validation.loss)};
    this.show('loss', [this.line('training', 0, series.loss), validation]);
    this.show('speed', [
      this.line('tokens/s', 0, series.tokens_per_second),
      this.line('MFU', 1, series.mfu, {yAxisID: 'mfu'})]);
    this.show('time', this.timeLines());
    this.show('balance', [
      this.line('experts', 0, series.expert_load),
      this.line('ranks', 1, series.rank_load)]);
    this.show('gradient', [
      this.line('norm', 0, series.gradient_norm),
      this.line('learning rate', 1, series.learning_rate, {yAxisID: 'rate'})]);
    this.show('memory', [this.line('MiB', 0,
        series.memory_bytes.map(v => isNumber(v) ? v / (1 << 20) : null))]);
  }

  show(id, datasets) {
    const chart = this.all[id];
    for (const scale of Object.values(chart.options.scales)) {
      scale.ticks.color = color('--dim');
      scale.grid.color = color('--line');
    }
    chart.options.plugins.legend.labels.color = color('--text');
    // A line that is there keeps being hidden or not.
    const lines = datasets.filter(line => line.data.length > 0);
    const names = chart.data.datasets.map(line => line.label).join();
    if (names === lines.map(line => line.label).join()) {
      lines.forEach((line, i) => Object.assign(chart.data.datasets[i], line));
    } else {
      chart.data.datasets = lines;
    }
    chart.update();
    chart.canvas.setAttribute('aria-label', summary(chart));
  }
}
