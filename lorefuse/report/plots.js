const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function draw() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--soft").trim(), line = style.getPropertyValue("--line").trim();
  for (const place of document.querySelectorAll("[data-figure]")) {
    const figure = figures[place.dataset.figure], layout = structuredClone(figure.layout);
    layout.font = {...layout.font, color: ink};
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) Object.assign(layout[key], {gridcolor: line, linecolor: line, tickcolor: line});
    }
    Plotly.react(place, structuredClone(figure.data), layout, {responsive: true, displaylogo: false, displayModeBar: false});
  }
}
draw();
dark.addEventListener("change", draw);
