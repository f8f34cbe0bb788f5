// Pieces of the page. Text goes in as text: nothing of a node is ever read as HTML.

/** An element with a class and a text. */
export function make(tag, name, text = '') {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

/** Shows rows of bars. A row that is there already is changed, so that it can glide. */
export function bars(list, rows) {
  const known = new Map([...list.children].map((item) => [item.dataset.name, item]));
  const items = rows.map(({ name, value, most, level }) => {
    const item = known.get(name) ?? bar(name);
    const [, track, figure] = item.children;
    item.dataset.level = level;
    // Set by script, which the policy of the page allows; in HTML it would be refused.
    track.firstElementChild.style.width = `${Math.min(100, (100 * (value ?? 0)) / most)}%`;
    item.title = value === null ? 'not known on this node' : '';
    figure.textContent = value === null ? '–' : value.toFixed(2);
    return item;
  });
  list.replaceChildren(...items);
}

function bar(name) {
  const item = make('li', 'bar');
  item.dataset.name = name;
  const track = make('span', 'track');
  track.append(make('span', 'fill'));
  item.append(make('span', 'bar-name', words(name)), track, make('span', 'figure'));
  return item;
}

/** Shows names with their figures. */
export function figures(list, rows) {
  list.replaceChildren(...rows.map(([name, value]) => {
    const row = make('div', '');
    row.append(make('dt', '', name), make('dd', '', value));
    return row;
  }));
}

/** `widen_batching` as people write it. */
export function words(name) {
  return name.replaceAll('_', ' ');
}

/** 1,234,567 */
export function grouped(value) {
  return Number.isFinite(value) ? Math.round(value).toLocaleString('en') : '–';
}

/** 12.3 MB */
export function bytes(value) {
  if (!Number.isFinite(value)) return '–';
  const units = [['GB', 1e9], ['MB', 1e6], ['kB', 1e3]];
  const unit = units.find(([, size]) => value >= size);
  return unit ? `${(value / unit[1]).toFixed(1)} ${unit[0]}` : `${Math.round(value)} B`;
}

/** 29m, 1h30m */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Samples of Prometheus' text by their series, as `name{label="value"}`. */
export function samples(text) {
  const found = new Map();
  for (const line of text.split('\n')) {
    const end = line.lastIndexOf(' ');
    if (line && !line.startsWith('#') && end > 0) {
      found.set(line.slice(0, end), Number(line.slice(end + 1)));
    }
  }
  return found;
}
