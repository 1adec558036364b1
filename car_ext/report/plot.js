// Draws a figure as SVG in the page's own colours, again whenever its width or the part in sight changes.
const REACH = 14; // pixels around a point in which it is pointed at

function element(parent, tag, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const width = (() => {
  const context = document.createElement("canvas").getContext("2d");
  context.font = "12px system-ui, sans-serif";
  return (text) => context.measureText(text).width;
})();

const short = (pixels) => Math.round(pixels * 100) / 100;
const polygon =
  (...corners) =>
  (x, y, r) =>
    `M${corners.map(([a, b]) => `${short(x + a * r)} ${short(y + b * r)}`).join("L")}Z`;
const star = [...Array(10)].map((_, at) => {
  const [angle, far] = [(at * Math.PI) / 5, at % 2 ? 0.5 : 1.2];
  return [far * Math.sin(angle), -far * Math.cos(angle)];
});
const MARKERS = {
  circle: (x, y, r) => `M${short(x - r)} ${short(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  triangle: polygon([0, -1.1], [1.1, 0.9], [-1.1, 0.9]),
  inverted_triangle: polygon([0, 1.1], [1.1, -0.9], [-1.1, -0.9]),
  square: polygon([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]),
  diamond: polygon([0, -1.3], [1, 0], [0, 1.3], [-1, 0]),
  star: polygon(...star),
  hex: polygon([-0.6, -1], [0.6, -1], [1.2, 0], [0.6, 1], [-0.6, 1], [-1.2, 0]),
  cross: polygon([-0.3, -1.1], [0.3, -1.1], [0.3, -0.3], [1.1, -0.3], [1.1, 0.3], [0.3, 0.3], [0.3, 1.1], [-0.3, 1.1],
    [-0.3, 0.3], [-1.1, 0.3], [-1.1, -0.3], [-0.3, -0.3]), // prettier-ignore
};

class Plot {
  constructor(host, { x, y, height, series, borders, cells }) {
    Object.assign(this, { host, height, series, borders });
    [this.x, this.y] = [new Axis(x), new Axis(y)];
    this.matrix = cells && new Matrix(this, cells);
    this.clip = `${host.id}-clip`;
    this.changed = () => {};
    this.svg = element(host, "svg", { "aria-hidden": "true" });
    new ResizeObserver(() => {
      if (host.clientWidth && host.clientWidth !== this.width) this.draw();
    }).observe(host);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
  }

  get whole() {
    return this.x.whole && this.y.whole;
  }

  draw() {
    this.width = this.host.clientWidth;
    this.svg.replaceChildren();
    this.layout();
    this.axes();
    const { left, top, across, down } = this;
    const clip = element(element(this.svg, "defs"), "clipPath", { id: this.clip });
    element(clip, "rect", { x: left, y: top, width: across, height: down });
    this.inside = element(this.svg, "g", { "clip-path": `url(#${this.clip})` });
    for (const { at, colour } of this.borders) {
      const x = this.x.pixel(at);
      element(this.inside, "path", { class: "border", d: `M${x} ${top}V${top + down}`, stroke: colour });
    }
    this.matrix?.draw();
    this.placed = this.series.map((one) => this.one(one));
    for (const one of this.series) if (one.labels) this.label(one);
    this.over = element(this.svg, "g", { class: "over" });
    this.changed();
  }

  layout() {
    const named = this.y.names.map((name) => width(name));
    this.left = (named.length ? (this.shows(this.y, 13) ? Math.max(...named) : 8) : 34) + 28;
    this.top = 8;
    this.across = Math.max(40, this.width - this.left - 20); // half of the last number stands beyond the axis
    const slot = (this.across / Math.max(1, this.x.names.length)) * (1 / (this.x.part[1] - this.x.part[0]));
    const widest = Math.max(0, ...this.x.names.map((name) => width(name)));
    this.upright = this.x.names.length > 0 && widest + 6 > slot;
    this.hidden = this.upright && slot < 13;
    const foot = (this.hidden ? 4 : this.upright ? widest + 8 : 20) + (this.x.label ? 22 : 6);
    this.down = this.matrix ? Math.min(this.across, 620) : this.height - this.top - foot;
    if (this.matrix) this.across = this.down;
    this.x.place(this.left, this.across);
    this.y.place(this.top + this.down, -this.down);
    const height = this.top + this.down + foot;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.style.maxWidth = `${this.width}px`;
    this.foot = height;
  }
  // Whether an axis has so many pixels for each of its names.
  shows(axis, room) {
    const length = Math.min(this.width * 0.8, 620);
    return length / (axis.names.length * (axis.part[1] - axis.part[0])) >= room;
  }

  axes() {
    const { left, top, across, down, svg, x, y } = this;
    const bottom = top + down;
    const grid = element(svg, "g", { class: "grid" });
    const ticks = element(svg, "g", { class: "ticks" });
    if (!this.hidden) {
      for (const [value, text] of x.ticks(56)) {
        const at = short(x.pixel(value));
        if (!x.names.length) element(grid, "path", { d: `M${at} ${top}V${bottom}` });
        const turned = `rotate(-90 ${at + 4} ${bottom + 6})`;
        if (this.upright) {
          element(ticks, "text", { x: at + 4, y: bottom + 6, "text-anchor": "end", transform: turned }, text);
        } else element(ticks, "text", { x: at, y: bottom + 16, "text-anchor": "middle" }, text);
      }
    }
    if (!y.names.length || this.shows(y, 13)) {
      for (const [value, text] of y.ticks(48)) {
        const at = short(y.pixel(value));
        if (!this.matrix) element(grid, "path", { d: `M${left} ${at}H${left + across}` });
        element(ticks, "text", { x: left - 6, y: at + 4, "text-anchor": "end" }, text);
      }
    }
    element(grid, "path", { class: "frame", d: `M${left} ${top}V${bottom}H${left + across}` });
    const middle = top + down / 2;
    element(ticks, "text", { class: "label", x: left + across / 2, y: this.foot - 5, "text-anchor": "middle" }, x.label);
    element(
      ticks,
      "text",
      { class: "label", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` },
      y.label,
    );
  }

  // Draws a series; returns where its points are.
  one({ data, colour, marker, size, dash, bar, alpha, whiskers }) {
    const at = data.x.map((value) => this.x.pixel(value));
    const up = data.y.map((value) => this.y.pixel(value));
    const group = element(this.inside, "g", { fill: colour, stroke: "none" });
    if (bar) {
      const [half, zero] = [Math.abs(this.x.pixel(bar / 2) - this.x.pixel(0)), this.y.pixel(0)];
      const d = at.map((x, i) => `M${short(x - half)} ${short(zero)}V${short(up[i])}h${short(2 * half)}V${short(zero)}Z`);
      element(group, "path", { d: d.join(""), "fill-opacity": alpha });
    }
    if (dash) {
      const d = `M${at.map((x, i) => `${short(x)} ${short(up[i])}`).join("L")}`;
      const dashes = dash === "dashed" ? "6 4" : "none";
      element(group, "path", { class: "line", d, stroke: colour, "stroke-dasharray": dashes, "stroke-opacity": alpha });
    }
    if (whiskers) {
      const ends = (i) => `${short(this.y.pixel(data.low[i]))}V${short(this.y.pixel(data.high[i]))}`;
      const d = at.map((x, i) => `M${short(x)} ${ends(i)}`).join("");
      element(group, "path", { class: "line", d, stroke: whiskers, "stroke-opacity": bar ? 1 : 0.45 });
    }
    if (marker) {
      const d = at.map((x, i) => MARKERS[marker](x, up[i], size / 2)).join("");
      element(group, "path", { d, "fill-opacity": alpha });
    }
    return { at, up };
  }

  // Names beside points, each where it covers neither a point nor another name, or not at all.
  label({ data, labels }) {
    const taken = this.placed.flatMap(({ at, up }, n) =>
      this.series[n].marker ? at.map((x, i) => [x - 4, up[i] - 4, x + 4, up[i] + 4]) : [],
    );
    const free = ([left, top, right, bottom]) =>
      left >= this.left &&
      right <= this.left + this.across + 8 &&
      top >= this.top &&
      bottom <= this.top + this.down &&
      taken.every(([a, b, c, d]) => right < a || left > c || bottom < b || top > d);
    const group = element(this.svg, "g", { class: "labels" });
    data[labels].forEach((text, i) => {
      const [x, y, long] = [this.x.pixel(data.x[i]), this.y.pixel(data.y[i]), width(text)];
      for (const [left, base] of [[x + 8, y - 2], [x - long - 8, y - 2], [x - long / 2, y - 9], [x - long / 2, y + 18],
        [x + 8, y + 12], [x - long - 8, y + 12], [x + 8, y - 14], [x - long - 8, y - 14]]) { // prettier-ignore
        const box = [left, base - 10, left + long, base + 2];
        if (!free(box)) continue;
        taken.push(box);
        element(group, "text", { x: short(left), y: short(base) }, text);
        break;
      }
    });
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = this.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const found = this.matrix ? this.matrix.at(x, y) : this.at(x, y);
    this.over.replaceChildren();
    if (!found.length) return tip.hide();
    for (const { ring } of found) if (ring) element(this.over, "circle", { cx: ring[0], cy: ring[1], r: ring[2] });
    tip.show(event.clientX, event.clientY, found.flatMap(({ lines }, i) => (i ? [[], ...lines] : lines)));
  }
  leave() {
    tip.hide();
    this.over?.replaceChildren();
  }

  // What lies at a pixel: the nearest point, with those that it hides, or a bar.
  at(x, y) {
    const inside = x >= this.left && x <= this.left + this.across && y >= this.top - 6 && y <= this.top + this.down + 6;
    if (!inside) return [];
    const near = [];
    this.series.forEach((one, n) => {
      if (!one.tips.length) return;
      const { at, up } = this.placed[n];
      const half = one.bar && Math.abs(this.x.pixel(one.bar / 2) - this.x.pixel(0));
      at.forEach((px, i) => {
        if (one.bar) {
          // A bar of nothing is pointed at, too.
          if (Math.abs(x - px) <= half && y >= Math.min(up[i], this.y.pixel(0) - REACH)) near.push([0, one, i]);
        } else {
          const far = Math.hypot(px - x, up[i] - y);
          if (far <= Math.max(REACH, one.size / 2)) near.push([far, one, i, [px, up[i], one.size / 2 + 3]]);
        }
      });
    });
    near.sort((a, b) => a[0] - b[0]);
    return near
      .filter(([far]) => far <= near[0][0] + 2)
      .slice(0, 4)
      .map(([, one, i, ring]) => ({ ring, lines: one.tips.map(([label, text]) => [label, filled(text, one.data, i)]) }));
  }
}

// {column} or {column:digits} of a text, of one point; a column of one value is that of all.
function filled(text, data, at) {
  return text.replace(/\{(\w+)(?::(\d))?\}/g, (_, key, digits) => {
    const column = data[key];
    const value = column.length === 1 ? column[0] : column[at];
    if (typeof value !== "number") return value;
    return digits === undefined ? value.toLocaleString("en") : figure(value, Number(digits));
  });
}
