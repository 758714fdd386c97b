'use strict';

// A table of ratios as colours: blue is below 1, orange above it, on a scale of
// powers of two from 1/2 to 2. Arrow keys, Home and End walk over the cells.

class HeatMap {
  // describe(row, column, ratio): what is said of a cell.
  constructor(id, describe) {
    this.canvas = byId(id);
    this.text = byId(id + '-text');
    this.describe = describe;
    this.rows = [];
    this.names = [];
    this.at = null;
    this.canvas.addEventListener('mousemove', event => this.point(event));
    this.canvas.addEventListener('click', event => this.point(event));
    this.canvas.addEventListener('keydown', event => this.key(event));
    this.canvas.addEventListener('focus', () => this.enter());
    addEventListener('resize', () => this.draw());
    matchMedia('(prefers-color-scheme: dark)')
        .addEventListener('change', () => this.draw());
  }

  // rows: [row][column] ratios; names: of rows.
  show(rows, names, label) {
    this.rows = rows;
    this.names = names;
    this.canvas.setAttribute('aria-label', label +
        ' Arrow keys walk over the cells.');
    this.draw();
  }

  columns() { return this.rows.length ? this.rows[0].length : 0; }

  measure() {
    const room = this.canvas.parentElement.clientWidth;
    this.left = this.names.some(name => name) ? 52 : 0;
    const fit = (room - this.left) / Math.max(1, this.columns());
    this.width = Math.max(4, Math.min(this.most || 48, Math.floor(fit)));
    const high = Math.floor(420 / Math.max(1, this.rows.length));
    this.height = Math.max(4, Math.min(this.square ? this.width : 22, high));
    if (this.square) this.width = this.height;
  }

  draw() {
    this.measure();
    const scale = devicePixelRatio || 1;
    const width = this.left + this.width * this.columns();
    const height = this.height * this.rows.length + 16;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    this.canvas.style.width = width + 'px';
    this.canvas.style.height = height + 'px';
    const context = this.canvas.getContext('2d');
    context.scale(scale, scale);
    const tones = ['--low', '--mid', '--high'].map(
        name => color(name).split(',').map(Number));
    this.rows.forEach((row, r) => row.forEach((ratio, c) => {
      context.fillStyle = this.tone(ratio, tones);
      context.fillRect(this.left + c * this.width, r * this.height,
                       this.width - (this.width > 6 ? 1 : 0),
                       this.height - (this.height > 6 ? 1 : 0));
    }));
    this.label(context);
    this.mark(context);
    this.say();
  }

  tone(ratio, [low, mid, high]) {
    if (!isNumber(ratio)) return `rgb(${mid})`;
    const power = ratio > 0 ? Math.log2(ratio) : -1;
    const far = Math.min(1, Math.abs(power));
    const end = power < 0 ? low : high;
    return `rgb(${mid.map((m, i) => Math.round(m + far * (end[i] - m)))})`;
  }

  label(context) {
    context.fillStyle = color('--dim');
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'middle';
    const every = Math.ceil(12 / this.height);
    this.names.forEach((name, r) => {
      if (r % every === 0) {
        context.fillText(name, 0, (r + 0.5) * this.height);
      }
    });
    const step = Math.max(1, Math.ceil(28 / this.width));
    context.textAlign = 'center';
    for (let c = 0; c < this.columns(); c += step) {
      context.fillText(c, this.left + (c + 0.5) * this.width,
                       this.rows.length * this.height + 9);
    }
    context.textAlign = 'left';
  }

  mark(context) {
    if (!this.at) return;
    context.strokeStyle = color('--text');
    context.lineWidth = 2;
    context.strokeRect(this.left + this.at[1] * this.width,
                       this.at[0] * this.height, this.width - 1,
                       this.height - 1);
  }

  say() {
    const inside = this.at && this.rows[this.at[0]] &&
        this.at[1] < this.columns();
    if (!inside) this.at = null;
    const text = inside ? this.describe(this.at[0], this.at[1],
                                        this.rows[this.at[0]][this.at[1]])
                        : '';
    // What is set is read out, also if it is what was there.
    if (this.text.textContent !== text) this.text.textContent = text;
  }

  point(event) {
    const column = Math.floor((event.offsetX - this.left) / this.width);
    const row = Math.floor(event.offsetY / this.height);
    this.at = row < this.rows.length && column >= 0 && column < this.columns()
        ? [row, column] : null;
    this.draw();
  }

  // By the keyboard: a pointer says itself where it is.
  enter() {
    if (this.at || !this.canvas.matches(':focus-visible')) return;
    this.at = [0, 0];
    this.draw();
  }

  key(event) {
    const moves = {ArrowUp: [-1, 0], ArrowDown: [1, 0],
                   ArrowLeft: [0, -1], ArrowRight: [0, 1],
                   Home: [0, -this.columns()], End: [0, this.columns()]};
    const move = moves[event.key];
    if (!move || !this.rows.length) return;
    event.preventDefault();
    const [row, column] = this.at || [0, 0];
    this.at = [
      Math.max(0, Math.min(this.rows.length - 1, row + move[0])),
      Math.max(0, Math.min(this.columns() - 1, column + move[1]))];
    this.draw();
  }
}

// Each number over the mean of all.
function overMean(values) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return values.map(value => mean > 0 ? value / mean : NaN);
}

// flat [experts * experts] counts -> [from][to] over independent choices.
function overIndependent(flat) {
  const experts = Math.round(Math.sqrt(flat.length));
  const from = new Array(experts).fill(0), to = new Array(experts).fill(0);
  let all = 0;
  flat.forEach((count, i) => {
    from[Math.floor(i / experts)] += count;
    to[i % experts] += count;
    all += count;
  });
  const rows = [];
  for (let r = 0; r < experts; ++r) {
    rows.push(to.map((total, c) => {
      const expected = from[r] * total / all;
      return expected > 0 ? flat[r * experts + c] / expected : NaN;
    }));
  }
  return rows;
}
