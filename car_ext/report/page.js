"use strict";
// Shows the figures, paints them in the page's colours, and lets buttons and keys zoom what Bokeh lets only a mouse.
{
  const touch = matchMedia("(pointer: coarse)").matches;
  const page = document.documentElement;
  const forPaper = document.querySelectorAll("details[data-paper]");
  const views = new Map();

  // Glyphs, unlike axes, take no colour from CSS.
  function paint() {
    const ink = getComputedStyle(page).getPropertyValue("--ink").trim();
    for (const view of views.values()) {
      for (const { name, glyph } of view.model.renderers) {
        if (name === "ink") {
          if ("text_color" in glyph) glyph.text_color = { value: ink };
          else glyph.line_color = { value: ink };
        }
      }
      for (const span of view.model.center) if ("dimension" in span && "location" in span) span.line_color = ink;
      view.request_repaint();
    }
  }

  // The part of an axis in sight as fractions of the whole, which is the same for upside-down and for log axes.
  class Window {
    constructor(range, log) {
      this.range = range;
      this.to = log ? Math.log : Number;
      this.from = log ? Math.exp : Number;
      this.first = this.to(range.start);
      this.length = this.to(range.end) - this.first;
    }
    get part() {
      return [this.range.start, this.range.end].map((value) => (this.to(value) - this.first) / this.length);
    }
    get whole() {
      const [low, high] = this.part;
      return low < 1e-6 && high > 1 - 1e-6;
    }
    show(low, high) {
      const length = Math.min(1, high - low);
      low = Math.min(Math.max(0, low), 1 - length);
      const [start, end] = [low, low + length].map((part) => this.from(this.first + part * this.length));
      this.range.setv({ start, end });
    }
    zoom(factor) {
      const [low, high] = this.part;
      const [middle, half] = [(low + high) / 2, ((high - low) / 2) * factor];
      this.show(middle - half, middle + half);
    }
    move(share) {
      const [low, high] = this.part;
      const by = share * (high - low);
      this.show(low + by, high + by);
    }
  }

  function control(view, controls) {
    const plot = view.model;
    const across = new Window(plot.x_range, plot.x_scale.type === "LogScale");
    const up = new Window(plot.y_range, plot.y_scale.type === "LogScale");
    const flip = plot.y_range.start > plot.y_range.end ? -1 : 1;
    const [into, out, reset] = controls.querySelectorAll("button");
    const tools = Object.fromEntries(plot.toolbar.tools.map((tool) => [tool.type, tool]));

    // A finger's drag scrolls the page as long as the whole is in sight.
    const settle = () => {
      const whole = across.whole && up.whole;
      if (whole && (document.activeElement === out || document.activeElement === reset)) into.focus();
      out.disabled = reset.disabled = whole;
      tools.BoxZoomTool.active = whole && !touch;
      tools.PanTool.active = !whole;
      tools.WheelZoomTool.active = !touch;
    };
    const zoom = (factor) => [across, up].forEach((axis) => axis.zoom(factor));
    const whole = () => [across, up].forEach((axis) => axis.show(0, 1));
    const does = {
      "+": () => zoom(0.5),
      "=": () => zoom(0.5),
      "-": () => zoom(2),
      0: whole,
      ArrowLeft: () => across.move(-0.25),
      ArrowRight: () => across.move(0.25),
      ArrowUp: () => up.move(0.25 * flip),
      ArrowDown: () => up.move(-0.25 * flip),
    };
    into.addEventListener("click", does["+"]);
    out.addEventListener("click", does["-"]);
    reset.addEventListener("click", whole);
    controls.addEventListener("keydown", (event) => {
      if (!(event.key in does) || event.ctrlKey || event.metaKey || event.altKey) return;
      does[event.key]();
      event.preventDefault();
    });
    for (const range of [plot.x_range, plot.y_range]) range.change.connect(settle);
    settle();
    controls.hidden = false;
  }

  // On paper a figure is a drawing of any width in dark ink, made at the moment of printing.
  function print() {
    page.classList.add("printing");
    for (const details of forPaper) details.open = true;
    paint();
    for (const [id, view] of views) {
      const drawing = new DOMParser().parseFromString(view.export("svg").ctx.get_serialized_svg(true), "image/svg+xml");
      const svg = document.importNode(drawing.documentElement, true);
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
      svg.style.maxWidth = `${svg.getAttribute("width")}px`;
      svg.removeAttribute("width");
      svg.removeAttribute("height");
      document.getElementById(id).append(svg);
    }
  }
  function printed() {
    page.classList.remove("printing");
    for (const details of forPaper) details.open = false;
    document.querySelectorAll(".plot > svg").forEach((svg) => svg.remove());
    paint();
  }

  async function show() {
    for (const script of document.querySelectorAll("script[data-plot]")) {
      const id = script.dataset.plot;
      const shown = await Bokeh.embed.embed_item(JSON.parse(script.textContent), id);
      const [view] = shown;
      views.set(id, view);
      // An image to a screen reader: its description is the page's, and the keys belong to the buttons.
      view.canvas_view.events_el.tabIndex = -1;
      if ("zooms" in script.dataset) control(view, document.querySelector(`[data-controls="${id}"]`));
    }
    paint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    addEventListener("beforeprint", print);
    addEventListener("afterprint", printed);
    page.dataset.shown = views.size;
  }
  show();
}
