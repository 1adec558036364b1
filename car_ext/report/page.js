// The page: shows the figures, lets buttons, keys and fingers zoom them, and helps with terms, tables and classes.
{
  const touch = matchMedia("(pointer: coarse)").matches;
  const page = document.documentElement;
  const plots = new Map();

  function control(plot, controls) {
    const { x, y } = plot;
    const flip = y.span < 0 ? -1 : 1;
    const [into, out, reset] = controls.querySelectorAll("button");
    const then = (change) => () => {
      change();
      plot.draw();
    };
    const zoom = (factor) => then(() => [x, y].forEach((axis) => axis.zoom(factor)));
    const whole = then(() => [x, y].forEach((axis) => axis.show(0, 1)));
    const does = {
      "+": zoom(0.5),
      "=": zoom(0.5),
      "-": zoom(2),
      0: whole,
      ArrowLeft: then(() => x.move(-0.25)),
      ArrowRight: then(() => x.move(0.25)),
      ArrowUp: then(() => y.move(0.25 * flip)),
      ArrowDown: then(() => y.move(-0.25 * flip)),
    };
    // A finger's drag scrolls the page as long as the whole is in sight.
    plot.changed = () => {
      if (plot.whole && (document.activeElement === out || document.activeElement === reset)) into.focus();
      out.disabled = reset.disabled = plot.whole;
      plot.svg.style.touchAction = plot.whole ? "auto" : "none";
    };
    into.addEventListener("click", does["+"]);
    out.addEventListener("click", does["-"]);
    reset.addEventListener("click", whole);
    controls.querySelector("[data-does=turn]")?.addEventListener("click", (event) => {
      plot.matrix.turn();
      event.target.setAttribute("aria-pressed", plot.matrix.turned);
    });
    controls.addEventListener("keydown", (event) => {
      if (!(event.key in does) || event.ctrlKey || event.metaKey || event.altKey) return;
      does[event.key]();
      event.preventDefault();
    });
    drag(plot);
    controls.hidden = false;
  }

  // Dragging enlarges a part, or moves what is enlarged; the wheel zooms with Ctrl, as without it the page scrolls.
  function drag(plot) {
    const { x, y, svg } = plot;
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      return [(event.clientX - box.left) * (plot.width / box.width), (event.clientY - box.top) * (plot.width / box.width)];
    };
    let from = null;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button || (touch && plot.whole)) return;
      from = at(event);
      svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [left, top] = at(event);
      if (plot.whole) {
        plot.over.replaceChildren();
        const corner = { x: Math.min(left, from[0]), y: Math.min(top, from[1]) };
        const size = { width: Math.abs(left - from[0]), height: Math.abs(top - from[1]) };
        element(plot.over, "rect", { class: "rubber", ...corner, ...size });
      } else {
        x.move((from[0] - left) / x.length);
        y.move((from[1] - top) / y.length);
        from = [left, top];
        plot.draw();
      }
    });
    svg.addEventListener("pointerup", (event) => {
      if (!from) return;
      const [left, top] = at(event);
      if (plot.whole && Math.abs(left - from[0]) > 8 && Math.abs(top - from[1]) > 8) {
        const ends = (axis, a, b) => axis.show(...[axis.fraction(a), axis.fraction(b)].sort((one, other) => one - other));
        ends(x, from[0], left);
        ends(y, from[1], top);
      }
      from = null;
      plot.draw();
    });
    svg.addEventListener("pointercancel", () => (from = null));
    svg.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey) return;
        event.preventDefault();
        const [left, top] = at(event);
        const factor = event.deltaY < 0 ? 0.8 : 1.25;
        x.zoom(factor, (left - x.start) / x.length);
        y.zoom(factor, (top - y.start) / y.length);
        plot.draw();
      },
      { passive: false },
    );
  }

  // Terms say what they mean where they stand; without this script, and by Enter, they lead to the list at the end.
  function explain(term) {
    const meaning = document.querySelector(`${term.getAttribute("href")} dd`).textContent;
    const show = () => {
      const box = term.getBoundingClientRect();
      tip.show(box.left, box.bottom - 8, [["", meaning]]);
    };
    term.addEventListener("pointerenter", show);
    term.addEventListener("focus", show);
    term.addEventListener("pointerleave", () => tip.hide());
    term.addEventListener("blur", () => tip.hide());
    term.addEventListener("click", (event) => {
      if (!touch) return;
      event.preventDefault();
      show();
    });
  }

  // A table wider than the page says how much of it is out of sight, and can be read row by row.
  function fit(scroll) {
    const table = scroll.querySelector("table");
    const heads = [...table.tHead.rows[0].cells];
    const note = Object.assign(document.createElement("p"), { className: "beyond", hidden: true });
    const said = document.createElement("span");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    note.append(said, " ", button);
    scroll.before(note);
    let stacked = false;
    const update = () => {
      const edge = scroll.getBoundingClientRect().right + 1;
      const beyond = stacked ? 0 : heads.filter((head) => head.getBoundingClientRect().right > edge).length;
      note.hidden = !beyond && !stacked;
      said.textContent = stacked
        ? ""
        : `${beyond} ${beyond > 1 ? "columns are" : "column is"} out of sight: swipe, turn the phone, or`;
      button.textContent = stacked ? "Show as a table" : "show each row as a list";
    };
    button.addEventListener("click", () => {
      stacked = !stacked;
      if (stacked) {
        for (const row of table.tBodies[0].rows) {
          [...row.cells].forEach((cell, at) => (cell.dataset.column = heads[at].textContent));
        }
      }
      table.classList.toggle("stacked", stacked);
      update();
    });
    scroll.addEventListener("scroll", update, { passive: true });
    new ResizeObserver(update).observe(scroll);
  }

  // Finds a class in every matrix, and says what it is taken for and what is taken for it.
  function search(place) {
    const input = place.querySelector("input");
    const answer = place.querySelector("output");
    const matrices = [...plots.values()].filter((plot) => plot.matrix);
    const names = matrices[0].matrix.names;
    const lower = names.map((name) => name.toLowerCase());
    const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    const sentence = (title, found) =>
      line("p", `${title} ${found.length ? found.slice(0, 10).map(([name, count, of]) => `${name} (${count} of ${of})`).join(", ") : "nothing"}${found.length > 10 ? ` and ${found.length - 10} more` : ""}`);

    function mark(found) {
      for (const plot of matrices) {
        plot.matrix.marked = found;
        if (plot.width) plot.draw();
      }
      if (found === null) return answer.replaceChildren();
      answer.replaceChildren(
        line("h4", names[found]),
        ...matrices.flatMap((plot) => {
          const [taken, takes] = plot.matrix.confusions(found);
          const run = matrices.length > 1 ? `${plot.title}: ` : "";
          return [sentence(`${run}taken for`, taken), sentence(`${run}for it are taken`, takes)];
        }),
      );
    }
    function find() {
      const wanted = input.value.trim().toLowerCase();
      if (!wanted) return mark(null);
      const exact = lower.indexOf(wanted);
      const found = exact < 0 ? lower.map((_, at) => at).filter((at) => lower[at].includes(wanted)) : [exact];
      if (found.length === 1) return mark(found[0]);
      mark(null);
      answer.replaceChildren(line("p", found.length ? `${found.length} classes:` : "No class is called so."));
      for (const one of found.slice(0, 12)) {
        const button = Object.assign(line("button", names[one]), { type: "button" });
        button.addEventListener("click", () => mark(one));
        answer.append(button, " ");
      }
    }
    input.addEventListener("input", find);
    place.hidden = false;
  }

  for (const script of document.querySelectorAll("script[data-plot]")) {
    const id = script.dataset.plot;
    const plot = new Plot(document.getElementById(id), JSON.parse(script.textContent));
    plot.title = document.getElementById(`${id}-title`).textContent;
    plots.set(id, plot);
    const controls = document.querySelector(`[data-controls="${id}"]`);
    if (controls) control(plot, controls);
    if (plot.host.clientWidth) plot.draw();
  }
  document.querySelectorAll("a.term").forEach(explain);
  document.querySelectorAll(".scroll").forEach(fit);
  document.querySelectorAll(".search").forEach(search);
  addEventListener("keydown", (event) => event.key === "Escape" && tip.hide());
  addEventListener("scroll", () => tip.hide(), { passive: true });

  // On paper, what is folded and worth the paper is open.
  const forPaper = document.querySelectorAll("details[data-paper]");
  addEventListener("beforeprint", () => forPaper.forEach((details) => (details.open = true)));
  addEventListener("afterprint", () => forPaper.forEach((details) => (details.open = false)));
  page.dataset.shown = plots.size;
}
