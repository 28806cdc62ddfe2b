"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const views = JSON.parse(document.getElementById("views").textContent);
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

function draw(name) {
  const element = document.getElementById(name);
  const { data, layout } = figures[name];
  return Plotly.react(element, data, themed(layout), config);
}

function showCost(name) {
  const front = figures.front;
  const view = views[name];
  front.data = front.data.map((trace, place) => ({ ...trace, ...view.traces[place] }));
  const title = { text: view.title };
  // A log axis takes its range anew from the values.
  front.layout.xaxis = { ...front.layout.xaxis, title, type: view.type, range: null, autorange: true };
  front.layout.yaxis = { ...front.layout.yaxis, range: null, autorange: true };
  const { tickvals, ticktext } = view.ticks ?? {};
  Object.assign(front.layout.xaxis, { tickvals, ticktext, tickmode: view.ticks ? "array" : "auto" });
  return draw("front");
}

const choice = document.getElementById("cost");
showCost(choice ? choice.value : Object.keys(views)[0]);
if (choice) {
  choice.addEventListener("change", () => showCost(choice.value));
}
// What lies far below is drawn when it comes near: a long page opens at once.
const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      near.unobserve(entry.target);
      draw(entry.target.id);
    }
  },
  { rootMargin: "600px" },
);
for (const name of Object.keys(figures)) {
  if (name !== "front") {
    near.observe(document.getElementById(name));
  }
}
dark.addEventListener("change", () => {
  for (const name of Object.keys(figures)) {
    if (document.getElementById(name).classList.contains("js-plotly-plot")) {
      draw(name);
    }
  }
});
