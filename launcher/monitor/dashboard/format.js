'use strict';

// Numbers for people. null and NaN are "n/a".

function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}

function humanNumber(value) {
  if (!isNumber(value)) return 'n/a';
  const suffixes = ['', 'k', 'M', 'G', 'T', 'P'];
  let i = 0;
  while (Math.abs(value) >= 999.5 && i + 1 < suffixes.length) {
    value /= 1000;
    ++i;
  }
  return Number(value.toPrecision(3)) + suffixes[i];
}

function humanBytes(value) {
  if (!isNumber(value)) return 'n/a';
  const mib = value / (1 << 20);
  return mib >= 1024 ? (mib / 1024).toFixed(1) + ' GiB'
                     : mib.toFixed(0) + ' MiB';
}

function humanSeconds(value) {
  if (!isNumber(value)) return 'n/a';
  if (value < 1) return (value * 1000).toFixed(0) + ' ms';
  if (value < 10) return value.toFixed(1) + ' s';
  const s = Math.round(value);
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + 'm' + String(s % 60).padStart(2, '0');
  return Math.floor(s / 3600) + 'h' +
      String(Math.floor(s / 60) % 60).padStart(2, '0');
}

function percent(value) {
  return isNumber(value) ? (100 * value).toFixed(0) + ' %' : 'n/a';
}

function digits(value, count) {
  return isNumber(value) ? value.toFixed(count) : 'n/a';
}

function byId(id) { return document.getElementById(id); }

// Text is always set as text: what ranks wrote is never markup.
function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function color(name) {
  return getComputedStyle(document.documentElement)
      .getPropertyValue(name).trim();
}
