"use strict";
// The one small box that says what is pointed at: a mark of a figure, or a term.
const tip = {
  box: null,

  // Lines are [label, text]; an empty list between them begins the next of several things.
  show(x, y, lines) {
    if (!this.box) {
      this.box = document.createElement("div");
      this.box.id = "tip";
      document.body.append(this.box);
    }
    this.box.replaceChildren(
      ...lines.map(([label, text]) => {
        const line = document.createElement(text === undefined ? "hr" : "div");
        if (label) {
          line.append(Object.assign(document.createElement("span"), { textContent: label }), " ");
        }
        if (text !== undefined) line.append(text);
        return line;
      }),
    );
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    const page = document.documentElement;
    const left = x + 14 + width > page.clientWidth ? x - 14 - width : x + 14;
    const top = y + 14 + height > page.clientHeight ? y - 14 - height : y + 14;
    this.box.style.left = `${Math.max(4, Math.min(left, page.clientWidth - width - 4))}px`;
    this.box.style.top = `${Math.max(4, top)}px`;
  },

  hide() {
    if (this.box) this.box.hidden = true;
  },
};
