"use strict";
const plots = JSON.parse(document.getElementById("plots").textContent);
const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const dark = window.matchMedia("(prefers-color-scheme: dark)");

// Colours of text and grid are the page's.
function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line") };
  return {
    ...layout,
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

// The layout's meta says what each cost changes.
function showCost(name) {
  const { data, layout } = plots.front;
  const cost = layout.meta.costs[name];
  plots.front.data = data.map((trace, index) => ({ ...trace, ...cost.traces[index] }));
  const title = { text: cost.title };
  // A log axis takes its range anew from the values.
  layout.xaxis = { ...layout.xaxis, title, type: cost.type, range: null, autorange: true };
  layout.yaxis = { ...layout.yaxis, range: null, autorange: true };
  const { tickvals, ticktext } = cost.ticks ?? {};
  Object.assign(layout.xaxis, { tickvals, ticktext, tickmode: cost.ticks ? "array" : "auto" });
  return draw("front");
}

if (plots.front) {
  // A run with one cost has no choice; a browser may keep the choice of before when it reloads.
  const choice = document.getElementById("cost");
  showCost(choice?.value ?? plots.front.layout.meta.first);
  choice?.addEventListener("change", () => showCost(choice.value));
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
dark.addEventListener("change", () => {
  for (const id of Object.keys(plots)) {
    if (document.getElementById(id).classList.contains("js-plotly-plot")) {
      draw(id);
    }
  }
});
