// An axis: from values to pixels, the part of it in sight, and its ticks.
const DAY = 864e5;
const STEPS = [6e4, 3e5, 9e5, 18e5, 36e5, 108e5, 216e5, 432e5, DAY, 2 * DAY, 7 * DAY, 14 * DAY];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

class Axis {
  constructor({ label, low, high, scale, names }) {
    Object.assign(this, { label, scale, names });
    [this.to, this.from] = scale === "log" ? [Math.log, Math.exp] : [Number, Number];
    this.first = this.to(low);
    this.span = this.to(high) - this.first;
    this.part = [0, 1]; // in sight, as fractions of the whole, which is the same for upside-down and for log axes
  }

  // From which pixel on, and how many; upwards they are negative.
  place(start, length) {
    Object.assign(this, { start, length });
  }
  pixel(value) {
    const [low, high] = this.part;
    return this.start + (((this.to(value) - this.first) / this.span - low) / (high - low)) * this.length;
  }
  fraction(pixel) {
    const [low, high] = this.part;
    return low + ((pixel - this.start) / this.length) * (high - low);
  }
  get ends() {
    return this.part.map((fraction) => this.from(this.first + fraction * this.span));
  }

  get whole() {
    return this.part[0] < 1e-6 && this.part[1] > 1 - 1e-6;
  }
  show(low, high) {
    const length = Math.min(1, Math.max(high - low, 1e-4));
    low = Math.min(Math.max(0, low), 1 - length);
    this.part = [low, low + length];
  }
  zoom(factor, about = 0.5) {
    const [low, high] = this.part;
    const middle = low + about * (high - low);
    this.show(middle - factor * (middle - low), middle + factor * (high - middle));
  }
  move(share) {
    const [low, high] = this.part;
    const by = share * (high - low);
    this.show(low + by, high + by);
  }

  // [value, text] of each, with so many pixels between two as its text needs.
  ticks(room) {
    const [low, high] = [...this.ends].sort((a, b) => a - b);
    const most = Math.max(2, Math.abs(this.length) / room);
    if (this.names.length) {
      return this.names.map((name, at) => [at, name]).filter(([at]) => at >= low && at <= high);
    }
    if (this.scale === "time") return this.moments(low, high, most);
    if (this.scale === "log" && high / low > 8) return this.powers(low, high, most);
    return this.numbers(low, high, most);
  }
  numbers(low, high, most) {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((value) => value >= rough * 0.999);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const shown = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at++) {
      shown.push([at * step, figure(at * step || 0, digits)]); // no -0
    }
    return shown;
  }
  powers(low, high, most) {
    const mantissas = Math.log10(high / low) * 3 <= most ? [1, 2, 5] : [1];
    const shown = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
      for (const mantissa of mantissas) {
        const value = mantissa * 10 ** power;
        if (value >= low && value <= high) shown.push([value, figure(value, Math.max(0, -power))]);
      }
    }
    return shown;
  }
  moments(low, high, most) {
    const rough = (high - low) / most;
    const step = STEPS.find((value) => value >= rough);
    const shown = [];
    if (step) {
      for (let at = Math.ceil(low / step) * step; at <= high; at += step) {
        const date = new Date(at);
        const day = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
        shown.push([at, at % DAY ? date.toISOString().slice(11, 16) : day]);
      }
      return shown;
    }
    const months = [1, 2, 3, 6, 12, 24, 60, 120].find((many) => many * 30.4 * DAY >= rough) || 1200;
    const first = new Date(low);
    for (let month = Math.ceil((first.getUTCFullYear() * 12 + first.getUTCMonth() + 1) / months) * months; ; ) {
      const at = Date.UTC(Math.floor(month / 12), month % 12);
      if (at > high) return shown;
      shown.push([at, `${MONTHS[month % 12]} ${Math.floor(month / 12)}`]);
      month += months;
    }
  }
}

// A number with so many digits behind its point, thousands apart.
function figure(value, digits) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
