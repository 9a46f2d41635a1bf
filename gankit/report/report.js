(() => {
  "use strict";
  document.documentElement.classList.add("js");
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const grids = read("grids");
  const curves = read("curves");

  // The slider through the sample grids.

  const when = document.getElementById("when");
  if (when) {
    const pictures = [...document.querySelectorAll("[data-column]")];
    const label = document.getElementById("step");
    const play = document.getElementById("play");
    const start = +when.getAttribute("value");
    const end = grids[0].length - 1;
    // A picture that the page already holds is stored once.
    grids.forEach((column, c) => column.forEach((grid, n) => {
      grid.source ??= n === start ? pictures[c].src : column[n - 1].source;
    }));
    const show = () => {
      const now = grids.map((column) => column[when.value]);
      const steps = [...new Set(now.map(({ step }) => step.toLocaleString("en-US")))];
      const text = `step ${steps.join(" / ")}`;
      now.forEach(({ step, source }, c) => {
        const { name } = pictures[c].dataset;
        pictures[c].src = source;
        pictures[c].alt = `Grid of samples${name ? ` of ${name}` : ""} at step ${step.toLocaleString("en-US")}`;
      });
      label.textContent = text;
      when.setAttribute("aria-valuetext", text);
    };
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
    };
    play.addEventListener("click", () => {
      if (timer) return stop();
      if (+when.value === end) when.value = 0;
      show();
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      timer = setInterval(() => {
        when.value = +when.value + 1;
        show();
        if (+when.value === end) stop();
      }, Math.max(100, Math.min(400, 8000 / end)));
    });
    when.addEventListener("input", () => { stop(); show(); });
    when.value = start; // a browser may restore the value from before a reload
    show();
  }

  // Buttons that copy a command; where the browser refuses, they select it.

  for (const place of document.querySelectorAll(".copyable")) {
    const code = place.querySelector("code");
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy the command ${code.textContent}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    place.append(button);
  }

  // A page of a training that goes on, until somebody reads it closely.

  if ("live" in document.body.dataset) {
    const again = setTimeout(() => location.reload(), 60_000);
    for (const touch of ["pointerdown", "keydown"]) addEventListener(touch, () => clearTimeout(again), { once: true });
  }

  // The curves. Colours come from the style sheet, and so follow light and dark.

  const panels = [...curves.panels, ...curves.errors];
  const measures = curves.measures ?? [];
  if (typeof Plotly === "undefined") return;
  const places = [...document.querySelectorAll(".plot")];
  const plots = new Set(places.slice(0, panels.length)); // over steps; the quantile plot comes last
  const drawn = new Set(); // plots in a folded part are drawn once it is opened
  let zoom = null; // the range of steps that all plots show, or null for all
  const touch = matchMedia("(pointer: coarse)").matches;

  // The level is a line of the layout, which a plot's range would not reach for.
  const reach = ({ level, series }) => level === null ? [] : [{
    x: series[0].line[0].slice(-1), y: [level], mode: "markers", marker: { opacity: 0 }, hoverinfo: "skip", showlegend: false,
  }];

  const star = ({ best }, colour) => best ? [{
    x: [best[0]], y: [best[1]], mode: "markers", name: "best checkpoint", showlegend: false, hovertemplate: "%{y:.4~g}",
    marker: { symbol: "star", size: 13, color: colour("--ink") },
  }] : [];

  const traces = (panel, colour) => reach(panel).concat(star(panel, colour), panel.series.flatMap((series, n) => {
    const hue = series.colour ?? n; // the runs of one model share a colour
    const own = colour(`--c${(hue % 6) + 1}`);
    const shape = panel.kind === "rates" ? "hv" : "linear";
    const few = series.line[0].length <= 40;
    const common = { legendgroup: `${hue}`, name: series.name, connectgaps: false };
    const named = !series.further;
    const old = series.abandoned.map(([x, y]) => ({
      ...common, x, y, mode: "lines", opacity: 0.5, hoverinfo: "skip", showlegend: false,
      line: { color: own, width: 1, dash: "dot" },
    }));
    const faint = Boolean(series.smooth);
    const [x, y] = series.line;
    const line = {
      ...common, x, y, mode: few ? "lines+markers" : "lines", marker: { size: 4 }, opacity: faint ? 0.3 : named ? 1 : 0.6,
      line: { color: own, width: faint || !named ? 1 : 1.6, shape }, showlegend: !faint && named,
      hovertemplate: "%{y:.4~g}",
    };
    if (!faint) return [...old, line];
    return [...old, line, {
      ...common, x: series.smooth[0], y: series.smooth[1], mode: "lines", line: { color: own, width: named ? 2 : 1.2 }, hoverinfo: "skip",
      showlegend: named,
    }];
  }));

  const quantiles = (plot, colour) => {
    const points = (name, key, n) => ({
      name, x: plot.normal, y: plot[key], mode: "markers", marker: { size: 6, color: colour(`--c${n}`), symbol: n === 1 ? "circle" : "diamond" },
      hovertemplate: "%{y:.3~g} (normal: %{x:.3~g})",
    });
    const ends = [plot.normal[0], plot.normal[plot.normal.length - 1]];
    return [
      { name: "normal", x: ends, y: ends, mode: "lines", hoverinfo: "skip", line: { color: colour("--muted"), width: 1, dash: "dash" } },
      points("real", "real", 1), points("generated", "fake", 2),
    ];
  };

  const few = ({ series }) => { // whole steps, where a chart has only some
    const steps = series.flatMap(({ line }) => line ? [line[0][0], line[0][line[0].length - 1]] : []);
    return steps.length > 0 && Math.max(...steps) - Math.min(...steps) < 8;
  };
  const layout = (panel, colour) => {
    const [ink, muted, grid] = ["--ink", "--muted", "--line"].map(colour);
    const vertical = (step, color, dash) => ({
      type: "line", x0: step, x1: step, yref: "paper", y0: 0, y1: 1, layer: "between", line: { color, width: 1, dash },
    });
    const side = (alarm) => colour(alarm.critical ? "--critical" : "--warning");
    const axis = { gridcolor: grid, zeroline: false, linecolor: grid, tickfont: { color: muted, size: 11 }, automargin: true };
    const [low, high] = panel.bounds;
    const named = panel.series.length > 1;
    const rows = named && (touch || panel.series.length > 2) ? 54 : 30; // above the plot: buttons, and names in one row or two
    return {
      uirevision: "keep", height: 242 + rows, margin: { l: 48, r: 8, t: rows, b: 34 }, hovermode: "x unified", dragmode: touch ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 12, color: ink },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: grid, font: { color: ink, size: 12 } },
      modebar: { orientation: "h", bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: ink },
      showlegend: named, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      xaxis: { ...axis, spikecolor: muted, spikethickness: -1, spikedash: "dot", hoverformat: ",d", tickformat: "~s", ...(few(panel) ? { dtick: 1 } : {}), unifiedhovertitle: { text: "step %{x:,d}" } },
      yaxis: {
        ...axis, type: panel.log ? "log" : "linear", zeroline: panel.zero, zerolinecolor: muted, nticks: 6,
        ...(panel.kind === "rates" && panel.log ? { tickformat: "~e", dtick: "D1" } : { tickformat: ".4~g", ...(panel.log ? { dtick: "D2" } : {}) }),
        ...(low === 0 ? { rangemode: "tozero" } : {}),
        autorangeoptions: { ...(low ? { clipmin: low } : {}), ...(high !== null ? { clipmax: high } : {}) },
      },
      shapes: [
        ...(panel.level === null ? [] : [{
          type: "line", xref: "paper", x0: 0, x1: 1, y0: panel.level, y1: panel.level, line: { color: muted, width: 1, dash: "dash" },
        }]),
        ...curves.drops.map((step) => vertical(step, muted, "dot")),
        ...curves.alarms.map((alarm) => vertical(alarm.step, side(alarm), alarm.replaced ? "dash" : "solid")),
      ],
      annotations: curves.alarms.map((alarm) => ({
        x: alarm.step, y: 1, yref: "paper", yanchor: "top", showarrow: false, text: "▼", hovertext: alarm.text,
        font: { color: side(alarm), size: 11 }, hoverlabel: { bgcolor: colour("--raised"), bordercolor: side(alarm), font: { color: ink } },
      })),
    };
  };

  const flat = (colour) => {
    const look = layout({ bounds: [null, null], series: ["real", "generated"], zero: false, level: null }, colour);
    const { spikecolor, spikethickness, spikedash, hoverformat, tickformat, unifiedhovertitle, ...axis } = look.xaxis;
    return {
      ...look, shapes: [], annotations: [], hovermode: "closest",
      xaxis: { ...axis, title: { text: "quantiles of a normal distribution", font: { size: 11, color: colour("--muted") } } },
      margin: { ...look.margin, b: 44 },
    };
  };

  // A measure: one dot per seed, the mean as a stroke with its interval, the value of real pictures as a dashed line.
  const rows = [...document.querySelectorAll(".dots")];
  const dots = ({ arms }, colour) => arms.flatMap(({ name, values, mean, interval }, n) => {
    const own = colour(`--c${(n % 6) + 1}`);
    const bar = interval ? { type: "data", symmetric: false, array: [interval[1] - mean], arrayminus: [mean - interval[0]], color: own, thickness: 1.5, width: 5 } : {};
    return [
      { x: values, y: values.map(() => name), mode: "markers", marker: { color: own, size: 7, opacity: 0.45 }, hovertemplate: "%{x:.4~g}<extra>one seed</extra>" },
      { x: [mean], y: [name], mode: "markers", error_x: bar, marker: { color: own, size: 15, symbol: "line-ns", line: { color: own, width: 3 } }, hovertemplate: "%{x:.4~g}<extra>mean</extra>" },
    ];
  });
  const line = ({ arms, ceiling }, colour) => {
    const shown = arms.flatMap(({ values, interval }) => [...values, ...(interval ?? [])]).concat(ceiling ?? []);
    const [least, most] = [Math.min(...shown), Math.max(...shown)];
    const room = 0.06 * (most - least) || 0.05 * Math.abs(most) || 1;
    const [ink, muted, grid] = ["--ink", "--muted", "--line"].map(colour);
    return {
      height: 58 + 30 * arms.length, margin: { l: 8, r: 12, t: 8, b: 30 }, showlegend: false, hovermode: "closest", dragmode: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 12, color: ink },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: grid, font: { color: ink, size: 12 } },
      xaxis: { gridcolor: grid, zeroline: false, tickfont: { color: muted, size: 11 }, tickformat: ".4~g", nticks: 6, fixedrange: true, range: [least - room, most + room] },
      yaxis: { automargin: true, fixedrange: true, showgrid: false, range: [arms.length - 0.4, -0.6], tickvals: arms.map(({ name }) => name), ticktext: arms.map(({ short }) => short) },
      shapes: ceiling === null ? [] : [{ type: "line", x0: ceiling, x1: ceiling, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color: muted, width: 1, dash: "dash" } }],
    };
  };

  // A sweep: every trial through its settings to the goal, and each setting against the goal.
  const trials = [...document.querySelectorAll(".trials")];
  const bare = (colour) => ({
    showlegend: false, hovermode: "closest", dragmode: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 } },
  });
  const bounds = ({ trials }) => {
    const all = trials.flatMap(({ value, seeds }) => [value, ...seeds]).filter((one) => one !== null && one !== undefined);
    if (!all.length) return [0, 1];
    const [least, most] = [Math.min(...all), Math.max(...all)];
    return most > least ? [least, most] : [least - 0.5, most + 0.5];
  };
  const parallel = (sweep, colour, place) => {
    const { axes, goal, best } = sweep;
    const down = place.clientWidth < 120 * (axes.length + 1); // on a phone the axes lie below one another
    const [least, most] = bounds(sweep);
    const span = Array.from({ length: 3 }, (_, n) => least + (most - least) * n / 2);
    const all = [...axes, { name: goal, ticks: span.map((value, n) => [n / 2, `${+value.toPrecision(3)}`]) }];
    const lost = sweep.maximise ? -0.22 : 1.22; // trials without a value, on the side of the bad ones
    const looks = {
      complete: { color: colour("--c1"), dash: "solid" }, collapsed: { color: colour("--critical"), dash: "dot" },
      "ended early": { color: colour("--muted"), dash: "dash" }, failed: { color: colour("--muted"), dash: "dot" },
    };
    const ordered = [...sweep.trials].reverse(); // the best on top
    const lines = ordered.map((trial, n) => {
      const at = [...trial.at, typeof trial.value === "number" ? (trial.value - least) / (most - least) : lost];
      const first = trial.number === best;
      const look = first ? { color: colour("--c2"), dash: "solid" } : looks[trial.state];
      const places = at.map((_, i) => i);
      return {
        x: down ? at : places, y: down ? places : at, mode: "lines+markers", marker: { size: 5, color: look.color },
        line: { ...look, width: first ? 3.5 : 1.4 }, opacity: first ? 1 : trial.state === "complete" ? 0.35 + 0.5 * n / ordered.length : 0.75,
        text: all.map(({ name }, i) => i < axes.length ? `${trial.text}<br>${name} ${trial.settings[i]}` : trial.text),
        hovertemplate: "%{text}<extra></extra>",
      };
    });
    const grid = colour("--line");
    const without = sweep.trials.some(({ value }) => typeof value !== "number");
    const [low, high] = [Math.min(-0.06, without && lost < 0 ? lost - 0.06 : 0), Math.max(1.06, without && lost > 1 ? lost + 0.06 : 1)];
    const mark = (i, at, text, more) => ({
      ...(down ? { x: at, y: i } : { x: i, y: at }), text, showarrow: false, font: { size: 11, color: colour("--muted") }, bgcolor: colour("--ground"),
      borderpad: 1, opacity: 0.9, ...(down ? { yshift: 13 } : { xshift: i === all.length - 1 ? 8 : -8, xanchor: i === all.length - 1 ? "left" : "right" }), ...more,
    });
    const ticks = all.flatMap(({ name, ticks }, i) => [
      ...(ticks.length > 6 ? [ticks[0], ticks[ticks.length - 1]] : ticks).map(([at, text]) => mark(i, at, text)),
      mark(i, down ? 0 : high, `<b>${name}</b>`, { font: { size: 12, color: colour("--ink") }, bgcolor: "rgba(0,0,0,0)", opacity: 1,
        ...(down ? { yshift: 32, xanchor: "left" } : { xshift: 0, yshift: 12, xanchor: i === 0 ? "left" : i === all.length - 1 ? "right" : "center" }) }),
    ]);
    if (without) ticks.push(mark(all.length - 1, lost, "no value"));
    const across = { showgrid: false, zeroline: false, showticklabels: false, fixedrange: true };
    return [lines, {
      ...bare(colour), height: down ? 78 * all.length + 24 : 380, margin: down ? { l: 16, r: 16, t: 30, b: 8 } : { l: 64, r: 64, t: 34, b: 8 },
      xaxis: { ...across, range: down ? [low, high] : [-0.06, all.length - 0.94] },
      yaxis: { ...across, range: down ? [all.length - 0.7, -0.5] : [low, high] },
      shapes: all.map((_, i) => ({ type: "line", layer: "below", line: { color: grid, width: 2 }, ...(down ? { x0: 0, x1: 1, y0: i, y1: i } : { x0: i, x1: i, y0: 0, y1: 1 }) })),
      annotations: ticks,
    }];
  };
  const against = (sweep, which, colour) => {
    const axis = sweep.axes[which];
    const [least, most] = bounds(sweep);
    const room = 0.08 * (most - least);
    const lost = sweep.maximise ? least - 2 * room : most + 2 * room;
    const without = sweep.trials.some(({ value }) => typeof value !== "number");
    const group = (chosen, marker, value) => ({
      x: chosen.map(({ at }) => at[which]), y: chosen.map(value), mode: "markers", marker, text: chosen.map(({ text, settings }) => `${text}<br>${axis.name} ${settings[which]}`),
      hovertemplate: "%{text}<extra></extra>",
    });
    const of = (state) => sweep.trials.filter((trial) => trial.state === state && trial.number !== sweep.best);
    const own = ({ value }) => value ?? lost;
    const complete = of("complete");
    const best = sweep.trials.filter(({ number }) => number === sweep.best);
    const bars = (chosen, color) => ({
      type: "data", symmetric: false, color, thickness: 1.2, width: 3, array: chosen.map(({ seeds, value }) => Math.max(...seeds) - value),
      arrayminus: chosen.map(({ seeds, value }) => value - Math.min(...seeds)),
    });
    const [muted, grid, critical] = ["--muted", "--line", "--critical"].map(colour);
    const side = { gridcolor: grid, zeroline: false, tickfont: { color: muted, size: 11 }, fixedrange: true, automargin: true };
    return [[
      { ...group(complete, { color: colour("--c1"), size: 8, opacity: 0.75 }, own), error_y: bars(complete, colour("--c1")) },
      group(of("ended early"), { color: muted, size: 8, symbol: "circle-open" }, own),
      group(of("failed"), { color: muted, size: 8, symbol: "x-thin", line: { color: muted, width: 2 } }, () => lost),
      group(of("collapsed"), { color: critical, size: 9, symbol: "x-thin", line: { color: critical, width: 2.5 } }, () => lost),
      { ...group(best, { color: colour("--c2"), size: 14, symbol: "star" }, own), error_y: bars(best, colour("--c2")) },
    ], {
      ...bare(colour), height: 260, margin: { l: 48, r: 12, t: 8, b: 34 },
      xaxis: { ...side, range: [-0.07, 1.07], tickvals: axis.ticks.map(([at]) => at), ticktext: axis.ticks.map(([, text]) => text) },
      yaxis: {
        ...side, tickformat: ".4~g", nticks: 6, title: { text: sweep.goal, font: { size: 11, color: muted } },
        range: [(without && sweep.maximise ? lost : least) - room, (without && !sweep.maximise ? lost : most) + room],
      },
    }];
  };

  const draw = async () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    measures.forEach((measure, n) => Plotly.react(rows[n], dots(measure, colour), line(measure, colour), { responsive: true, displayModeBar: false }));
    trials.forEach((place, n) => {
      const [lines, look] = n ? against(curves.sweep, n - 1, colour) : parallel(curves.sweep, colour, place);
      Plotly.react(place, lines, look, { responsive: true, displayModeBar: false });
    });
    await Promise.all(places.map(async (place, n) => {
      if (place.closest("details:not([open])")) return;
      const panel = panels[n];
      const [lines, look] = panel ? [traces(panel, colour), layout(panel, colour)] : [quantiles(curves.quantiles, colour), flat(colour)];
      const first = !drawn.has(place);
      drawn.add(place);
      await Plotly.react(place, lines, look, {
        responsive: true, displaylogo: false, displayModeBar: touch ? true : "hover",
        modeBarButtons: [[...(touch ? [] : ["toImage"]), "zoom2d", "pan2d", "resetScale2d"]],
      });
      if (!first) return;
      place.on("plotly_afterplot", () => skip(place));
      skip(place);
      if (!panel) return;
      if (zoom) await Plotly.relayout(place, { "xaxis.range": [...zoom] });
      follow(place);
    }));
  };

  // The buttons of a plot are for pointers. Four of each, by tab, would stand before whatever follows.
  const skip = (place) => place.querySelectorAll(".modebar-btn").forEach((button) => { button.tabIndex = -1; });

  // One zoom for all panels.
  const follow = (plot) => plot.on("plotly_relayout", (change) => {
    if (follow.busy) return;
    const from = change["xaxis.range[0]"];
    const range = from === undefined ? null : [from, change["xaxis.range[1]"]];
    if (!range && !change["xaxis.autorange"]) return;
    follow.busy = true;
    zoom = range;
    const update = range ? { "xaxis.range": range } : { "xaxis.autorange": true, "yaxis.autorange": true };
    Promise.all([...plots].filter((other) => other !== plot && drawn.has(other)).map((other) => Plotly.relayout(other, update)))
      .finally(() => { follow.busy = false; });
  });

  draw();
  document.querySelectorAll("details").forEach((part) => part.addEventListener("toggle", () => { if (part.open) draw(); }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
