"use strict";
const { plots, trials } = JSON.parse(document.getElementById("plots").textContent);
// Without Plotly's buttons, which would cover legends and marks.
const config = { responsive: true, displayModeBar: false };
// A finger that scrolls the page must not zoom a figure.
const touch = window.matchMedia("(pointer: coarse)").matches;
const dark = window.matchMedia("(prefers-color-scheme: dark)");

// Colours of text and grid are the page's.
function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line") };
  return {
    ...layout,
    dragmode: touch ? false : "zoom",
    font: { ...layout.font, color: colour("--text"), family: "system-ui, sans-serif" },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
    hoverlabel: { ...layout.hoverlabel, bgcolor: colour("--ground"), font: { color: colour("--text") } },
  };
}

function draw(id) {
  const { data, layout } = plots[id];
  return Plotly.react(document.getElementById(id), data, themed(layout), config);
}

const everything = document.getElementById("everything");

// The axis shows the front; trials far below it on request.
function showAccuracies(cost) {
  const { layout } = plots.front;
  const all = everything.checked && cost.below > 0;
  layout.yaxis = { ...layout.yaxis, range: all ? null : [...cost.range], autorange: all };
  everything.parentElement.hidden = cost.below === 0;
  const trials = cost.below === 1 ? "trial" : "trials";
  everything.nextElementSibling.textContent =
    `also show ${cost.below.toLocaleString("en")} ${trials} below ${cost.range[0].toFixed(0)} %`;
}

// The layout's meta says what each cost changes.
function showCost(name) {
  const { data, layout } = plots.front;
  const cost = layout.meta.costs[name];
  plots.front.data = data.map((trace, index) => ({ ...trace, ...cost.traces[index] }));
  const title = { text: cost.title };
  // A log axis takes its range anew from the values.
  layout.xaxis = { ...layout.xaxis, title, type: cost.type, range: null, autorange: true };
  showAccuracies(cost);
  const { tickvals, ticktext } = cost.ticks ?? {};
  Object.assign(layout.xaxis, { tickvals, ticktext, tickmode: cost.ticks ? "array" : "auto" });
  return draw("front");
}

if (plots.front) {
  // A run with one cost has no choice; a browser may keep the choice of before when it reloads.
  const choice = document.getElementById("cost");
  const show = () => showCost(choice?.value ?? plots.front.layout.meta.first);
  show();
  choice?.addEventListener("change", show);
  everything.addEventListener("change", show);
}
// A figure far below is drawn when it comes near, so that a long page opens at once.
const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      near.unobserve(entry.target);
      draw(entry.target.id);
    }
  },
  { rootMargin: "600px" },
);
for (const id of Object.keys(plots)) {
  if (id !== "front") {
    near.observe(document.getElementById(id));
  }
}
// On paper, all of them.
addEventListener("beforeprint", () => {
  for (const id of Object.keys(plots)) {
    if (!document.getElementById(id).classList.contains("js-plotly-plot")) {
      draw(id);
    }
  }
});
dark.addEventListener("change", () => {
  for (const id of Object.keys(plots)) {
    if (document.getElementById(id).classList.contains("js-plotly-plot")) {
      draw(id);
    }
  }
});

// All trials: a table that is sorted and filtered here, and drawn in parts, since there may be thousands.
function showTrials(table, { columns, rows }) {
  const part = 50, texts = ["outcome", "recipe", "why it ended"];
  const more = document.getElementById("more"), filter = document.getElementById("filter");
  const written = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, useGrouping: false });
  const words = rows.map((row) => row.join(" ").toLowerCase());
  let by = 0, up = true, shown = part;

  function cell(value, column) {
    const td = document.createElement("td");
    const number = typeof value === "number";
    // Text only: names come from files.
    const percent = column.endsWith("(%)"); // with one decimal, as everywhere
    td.textContent = !number ? value ?? "" : percent ? value.toFixed(1)
      : Number.isInteger(value) ? String(value) : written.format(value);
    if (texts.slice(1).includes(column)) td.className = column === "recipe" ? "text" : "text why";
    else if (column !== "trial") td.dataset.name = column;
    if (column === "outcome") td.style.textAlign = "left";
    return td;
  }

  function render() {
    const wanted = filter.value.toLowerCase().split(/[\s,]+/);
    const kept = rows.filter((_, index) => wanted.every((word) => words[index].includes(word)));
    const empty = (value) => value === null;
    kept.sort((one, other) => {
      const a = one[by], b = other[by];
      if (empty(a) || empty(b)) return empty(a) - empty(b); // at the end in both orders
      const order = typeof a === "number" ? a - b : a.localeCompare(b);
      return up ? order : -order;
    });
    table.tBodies[0].replaceChildren(
      ...kept.slice(0, shown).map((row) => {
        const tr = document.createElement("tr");
        tr.append(...row.map((value, index) => cell(value, columns[index])));
        return tr;
      }),
    );
    for (const [index, th] of [...table.tHead.rows[0].cells].entries()) {
      th.ariaSort = index === by ? (up ? "ascending" : "descending") : null;
    }
    more.hidden = kept.length <= shown;
    more.textContent = `Show more (${Math.min(shown, kept.length)} of ${kept.length.toLocaleString("en")})`;
  }

  const head = document.createElement("tr");
  for (const [index, name] of columns.entries()) {
    const th = document.createElement("th"), button = document.createElement("button");
    button.textContent = name;
    if (texts.includes(name)) th.className = "text";
    button.addEventListener("click", () => {
      // Words and trial numbers begin with the first, accuracies with the highest.
      up = index === by ? !up : !name.endsWith("(%)");
      by = index;
      shown = part;
      render();
    });
    th.append(button);
    head.append(th);
  }
  table.tHead.append(head);
  filter.addEventListener("input", () => {
    shown = part;
    render();
  });
  more.addEventListener("click", () => {
    shown += 4 * part;
    render();
  });
  render();
}

const table = document.getElementById("trials");
if (table) {
  showTrials(table, trials);
}
