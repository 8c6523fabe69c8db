// Unpacks plotly.js and the figures, draws what is in view, and follows the theme. Nothing is fetched.
"use strict";
(async () => {
  const unpack = async (id) => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  globalThis.unpacked = unpack; // for scripts that a page adds
  const boot = document.createElement("script");
  boot.textContent = await unpack("plotly");
  document.head.append(boot);
  const figures = JSON.parse(await unpack("figures"));

  const dark = matchMedia("(prefers-color-scheme: dark)");
  // "@name" in a figure is the style sheet's custom property --name.
  const themed = (value) => {
    if (typeof value === "string" && value.startsWith("@")) {
      const style = getComputedStyle(document.documentElement);
      const colour = (name) => style.getPropertyValue("--" + name).trim();
      if (value === "@ramp") return [[0, colour("ramp0")], [1, colour("ramp1")]];
      if (value === "@dead") return [[0, colour("dead")], [1, colour("dead")]];
      return colour(value.slice(1));
    }
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(themed);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
    }
    return value;
  };
  const merged = (base, more) => {
    const result = { ...base };
    for (const [key, value] of Object.entries(more)) {
      const nested = value && typeof value === "object" && !Array.isArray(value);
      result[key] = nested ? merged(base[key] || {}, value) : value;
    }
    return result;
  };
  const axis = {
    automargin: true, gridcolor: "@grid", zerolinecolor: "@grid", linecolor: "@grid", tickcolor: "@grid",
    title: { standoff: 8 },
  };
  const base = (narrow) => ({
    autosize: true,
    margin: { l: 8, r: 8, t: 24, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13, color: "@soft" },
    hoverlabel: { bgcolor: "@card", bordercolor: "@grid", font: { color: "@ink" }, namelength: -1 },
    legend: { orientation: "h", y: -0.25, x: 0, yanchor: "top", traceorder: "normal" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "@soft", activecolor: "@accent" },
    xaxis: axis,
    yaxis: axis,
  });

  const draw = (box) => {
    if (box.dataset.drawn || !box.offsetParent) return;
    box.dataset.drawn = "yes";
    const figure = figures[+box.dataset.plot];
    const layout = merged(base(box.clientWidth < 560), figure.layout);
    const options = {
      responsive: true, displaylogo: false, displayModeBar: figure.tools,
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]],
    };
    Plotly.newPlot(box, themed(figure.data), themed(layout), options);
  };
  const boxes = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target));
  }, { rootMargin: "800px" });
  boxes.forEach((box) => seen.observe(box));

  dark.addEventListener("change", () => {
    for (const box of boxes.filter((each) => each.dataset.drawn)) {
      delete box.dataset.drawn;
      draw(box);
    }
  });
  addEventListener("beforeprint", () => boxes.forEach(draw));
  for (const choice of document.querySelectorAll(".choice")) {
    const buttons = [...choice.querySelectorAll("button")];
    const panes = [...choice.querySelectorAll(".pane")];
    buttons.forEach((button, index) => button.addEventListener("click", () => {
      buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(i === index)));
      panes.forEach((pane, i) => { pane.hidden = i !== index; });
      panes[index].querySelectorAll(".plot").forEach(draw);
    }));
  }
  document.documentElement.dataset.ready = "yes";
})();
