// The cells of a confusion matrix: rows are true classes, or columns where that is asked for.
const SHADES = 16;

class Matrix {
  constructor(plot, { true: truth, predicted, counts, images, names, colours, written }) {
    Object.assign(this, { plot, truth, predicted, counts, images, names, colours, written });
    this.turned = false; // whether columns are true
    this.marked = null; // the place of the class that was searched for
    this.cells = new Map(truth.map((place, i) => [place * names.length + predicted[i], i]));
  }

  turn() {
    const { x, y } = this.plot;
    this.turned = !this.turned;
    [x.label, y.label] = [y.label, x.label];
    const [across, up] = [x.part, y.part];
    x.show(1 - up[1], 1 - up[0]); // the same classes stay in sight
    y.show(1 - across[1], 1 - across[0]);
    this.plot.draw();
  }
  share(i) {
    return this.counts[i] / this.images[this.truth[i]];
  }
  place(i) {
    return this.turned ? [this.truth[i], this.predicted[i]] : [this.predicted[i], this.truth[i]];
  }

  draw() {
    const { x, y, inside, left, top, across, down } = this.plot;
    const few = this.names.length <= 30;
    const step = x.pixel(1) - x.pixel(0);
    const size = Math.max(few ? step * 0.94 : step, 1.5);
    const shades = new Map();
    this.truth.forEach((_, i) => {
      const [column, row] = this.place(i);
      const [px, py] = [x.pixel(column), y.pixel(row)];
      if (px + size < left || py + size < top || px - size > left + across || py - size > top + down) return;
      const shade = Math.ceil(SHADES * Math.sqrt(this.share(i)));
      const key = (this.truth[i] === this.predicted[i] ? 0 : SHADES + 1) + shade;
      if (!shades.has(key)) shades.set(key, []);
      shades.get(key).push(`M${short(px - size / 2)} ${short(py - size / 2)}h${short(size)}v${short(size)}h${short(-size)}z`);
    });
    for (const [key, d] of shades) {
      const wrong = key > SHADES;
      const alpha = 0.1 + 0.7 * ((wrong ? key - SHADES - 1 : key) / SHADES);
      element(inside, "path", { d: d.join(""), fill: this.colours[wrong ? 1 : 0], "fill-opacity": short(alpha) });
    }
    if (this.written && step > 18) {
      const group = element(inside, "g", { class: "labels" });
      this.truth.forEach((_, i) => {
        const [column, row] = this.place(i);
        const at = { x: short(x.pixel(column)), y: short(y.pixel(row) + 4), "text-anchor": "middle" };
        element(group, "text", at, String(Math.round(100 * this.share(i))));
      });
    }
    if (this.marked !== null) {
      const wide = Math.max(size, 3);
      const [px, py] = [x.pixel(this.marked) - wide / 2, y.pixel(this.marked) - wide / 2];
      element(inside, "rect", { class: "marked", x: px, y: top, width: wide, height: down });
      element(inside, "rect", { class: "marked", x: left, y: py, width: across, height: wide });
    }
  }

  // The cell at a pixel, or the nearest within a few of them where cells are smaller than that.
  at(x, y) {
    const { plot, names } = this;
    const value = (axis, pixel) => axis.from(axis.first + axis.fraction(pixel) * axis.span);
    const inside = x >= plot.left && x <= plot.left + plot.across && y >= plot.top && y <= plot.top + plot.down;
    if (!inside) return [];
    const [column, row] = [value(plot.x, x), value(plot.y, y)];
    const reach = Math.ceil(3 / Math.abs(plot.x.pixel(1) - plot.x.pixel(0)) - 0.5);
    let [nearest, found] = [Infinity, null];
    for (let r = Math.round(row) - reach; r <= Math.round(row) + reach; r++) {
      for (let c = Math.round(column) - reach; c <= Math.round(column) + reach; c++) {
        const i = this.turned ? this.cells.get(c * names.length + r) : this.cells.get(r * names.length + c);
        const inRange = Math.min(r, c) >= 0 && Math.max(r, c) < names.length;
        const far = Math.hypot(c - column, r - row);
        if (inRange && i !== undefined && far < nearest) [nearest, found] = [far, i];
      }
    }
    return found === null ? [] : [{ lines: this.lines(found) }];
  }
  lines(i) {
    return [
      ["true", this.names[this.truth[i]]],
      ["predicted", this.names[this.predicted[i]]],
      ["images", figure(this.counts[i], 0)],
      ["of the class", `${figure(100 * this.share(i), 1)} %`],
    ];
  }

  // What a class is taken for, and what is taken for it, most images first: [name, images, of how many] each.
  confusions(place) {
    const wrong = this.truth.map((_, i) => i).filter((i) => this.truth[i] !== this.predicted[i]);
    const listed = (own, other) =>
      wrong
        .filter((i) => own[i] === place)
        .sort((a, b) => this.counts[b] - this.counts[a])
        .map((i) => [this.names[other[i]], this.counts[i], this.images[this.truth[i]]]);
    return [listed(this.truth, this.predicted), listed(this.predicted, this.truth)];
  }
}
