(async () => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("js");
  const about = JSON.parse(byId("about").textContent);
  const [channels, height, width] = about.shape;
  const size = about.low.length;
  const LARGE = 512; // pixels of a saved picture, at least
  const AT_ONCE = 4; // pictures in one pass of the network, so that the page answers in between

  // The networks.

  const unpacked = async (id) => {
    const text = byId(id).textContent.trim();
    byId(id).remove(); // megabytes that nobody needs any more
    const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const wake = async () => {
    // A page from disk can load neither a worker nor a second file.
    Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary: (await unpacked("wasm")).buffer });
    const open = async (id) => ort.InferenceSession.create(await unpacked(id), { executionProviders: ["wasm"] });
    return { generator: await open("generator"), latents: await open("latents") };
  };
  let networks = null;
  let last = Promise.resolve(); // a network does one thing at a time
  const inTurn = (work) => { last = last.then(work, work); return last; };

  // Random numbers by seed: sfc32 of PractRand, by Chris Doty-Humphrey; normal ones by Box and Muller.

  const stream = (seed) => {
    let [a, b, c, counter] = [seed | 0, (seed / 2 ** 32) | 0, 0x9e3779b9 | 0, 1];
    const next = () => {
      const t = (((a + b) | 0) + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = ((c << 21) | (c >>> 11)) + t | 0;
      return t >>> 0;
    };
    for (let n = 0; n < 15; n++) next();
    return {
      uniform: () => (next() >>> 8) / 2 ** 24,
      normal: () => Math.sqrt(-2 * Math.log((next() + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * next()) / 2 ** 32),
      below: (n) => next() % n,
    };
  };
  const latentOf = (seed) => inTurn(async () => {
    const random = stream(seed);
    const inputs = {};
    for (const kind of ["uniform", "normal"]) {
      const count = about[kind];
      if (count) inputs[kind] = new ort.Tensor("float32", Float32Array.from({ length: count }, random[kind]), [1, count]);
    }
    return (await networks.latents.run(inputs)).z.data;
  });
  // The pictures of latents: numbers in [-1, 1], channel by channel.
  const generate = (latents, labels) => inTurn(async () => {
    const z = new Float32Array(latents.length * size);
    latents.forEach((one, n) => z.set(one, n * size));
    const inputs = { z: new ort.Tensor("float32", z, [latents.length, size]) };
    if (about.classes.length) {
      inputs.label = new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [labels.length]);
    }
    const { data } = (await networks.generator.run(inputs)).picture;
    const one = channels * height * width;
    return latents.map((_, n) => data.subarray(n * one, (n + 1) * one));
  });

  // A picture is a latent and a class, and a seed if it was drawn by one. Its address finds it again.

  const clipped = (z) => z.map((value, n) => Math.min(Math.max(value, about.low[n]), about.high[n]));
  const LEVELS = 65535;
  // A latent as text, two bytes a number; and its nearest latent that has a text, for one that is made here.
  const coded = (z) => {
    const bytes = new Uint8Array(2 * size);
    clipped(z).forEach((value, n) => {
      const level = Math.round(((value - about.low[n]) / (about.high[n] - about.low[n] || 1)) * LEVELS);
      bytes.set([level & 255, level >> 8], 2 * n);
    });
    return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  };
  const decoded = (text) => {
    const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    if (bytes.length !== 2 * size) throw new Error("another generator's address");
    return Float32Array.from({ length: size }, (_, n) => {
      const level = bytes.charCodeAt(2 * n) + 256 * bytes.charCodeAt(2 * n + 1);
      return about.low[n] + (level / LEVELS) * (about.high[n] - about.low[n]);
    });
  };
  const made = (z, label, what) => ({ z: decoded(coded(z)), label, what });
  const drawn = async (seed, kind) => {
    const label = !about.classes.length ? 0 : kind >= 0 ? kind : seed % about.classes.length;
    return { z: await latentOf(seed), label, seed, what: `Seed ${seed}` };
  };
  const address = ({ z, label, seed }) =>
    `#${seed === undefined ? `z=${coded(z)}` : `seed=${seed}`}${about.classes.length ? `&class=${label}` : ""}`;
  const found = async (text) => {
    const given = new URLSearchParams(text.slice(1));
    const kind = Math.min(Math.max(parseInt(given.get("class") ?? "-1", 10) || 0, -1), about.classes.length - 1);
    try {
      if (given.has("z")) return made(decoded(given.get("z")), Math.max(kind, 0), "Found again");
    } catch { /* no address of this page's */ }
    const seed = given.has("seed") ? Number(given.get("seed")) : NaN;
    return Number.isSafeInteger(seed) && seed >= 0 ? drawn(seed, kind) : null;
  };

  // Drawing on the page.

  const canvas = () => Object.assign(document.createElement("canvas"), { width, height });
  const put = (pixels, target) => {
    const context = target.getContext("2d");
    const image = context.createImageData(width, height);
    const area = width * height;
    for (let place = 0; place < area; place++) {
      for (let c = 0; c < 3; c++) image.data[4 * place + c] = Math.round((pixels[(channels === 1 ? 0 : c) * area + place] + 1) * 127.5);
      image.data[4 * place + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  };
  // Draw each picture on its canvas, a few at a time, as long as `still` holds.
  const paint = async (pictures, canvases, still = () => true) => {
    for (let n = 0; n < pictures.length && still(); n += AT_ONCE) {
      const some = pictures.slice(n, n + AT_ONCE);
      const pixels = await generate(some.map(({ z }) => z), some.map(({ label }) => label));
      if (!still()) return;
      pixels.forEach((one, k) => put(one, canvases[n + k]));
      await new Promise((go) => setTimeout(go));
    }
  };

  // The chosen picture, and the sliders that change it.

  const large = byId("large");
  let base = null; // the picture that the sliders start from
  let shown = null; // the picture on the stage
  let wanted = null;
  let painting = false;
  const mine = (is) => {
    byId("keep").textContent = is ? "Kept" : "Keep";
    byId("keep").setAttribute("aria-pressed", String(is));
  };
  const show = async (picture) => {
    [shown, wanted] = [picture, picture];
    byId("name").textContent = picture.what + (about.classes.length ? `, ${about.classes[picture.label]}` : "");
    large.setAttribute("aria-label", `The chosen picture: ${byId("name").textContent}`);
    mine(kept.some((one) => address(one) === address(picture)));
    clearTimeout(show.timer); // browsers allow few changes of an address a second
    show.timer = setTimeout(() => { if (location.hash !== address(shown)) history.replaceState(null, "", address(shown)); }, 250);
    if (painting) return;
    painting = true;
    while (wanted) { // the latest only, if a slider is faster than the network
      const next = wanted;
      wanted = null;
      put((await generate([next.z], [next.label]))[0], large);
    }
    painting = false;
  };
  const sliders = about.steps.map((step, n) => {
    const row = Object.assign(document.createElement("div"), { className: "slider" });
    const range = Object.assign(document.createElement("input"), { type: "range", min: -4, max: 4, step: 0.05, value: 0 });
    range.setAttribute("aria-label", `Direction ${n + 1}`);
    range.addEventListener("input", () => slide());
    const ends = [canvas(), canvas()];
    ends.forEach((one) => one.setAttribute("aria-hidden", "true"));
    row.append(ends[0], range, ends[1]);
    byId("sliders").append(row);
    return { range, ends, step };
  });
  const moved = (z, by) => clipped(z.map((value, n) => value + by.reduce((sum, far, k) => sum + far * about.steps[k][n], 0)));
  const slide = () => {
    stopWalk();
    const by = sliders.map(({ range }) => +range.value);
    show(by.some(Boolean) ? made(moved(base.z, by), base.label, `${base.what}, changed`) : base);
  };
  let newest = 0; // the last choice, whose slider ends are worth drawing
  const choose = async (picture) => {
    const own = ++newest;
    base = picture;
    sliders.forEach(({ range }) => { range.value = 0; });
    await show(picture);
    const far = sliders.flatMap((_, k) => [-4, 4].map((by) => ({
      z: moved(picture.z, sliders.map((__, n) => (n === k ? by : 0))), label: picture.label,
    })));
    await paint(far, sliders.flatMap(({ ends }) => ends), () => own === newest);
  };
  byId("back").addEventListener("click", () => choose(base));

  // New pictures.

  const grid = Array.from({ length: about.grid }, () => {
    const button = Object.assign(document.createElement("button"), { type: "button", disabled: true });
    const target = canvas();
    button.append(target);
    byId("grid").append(button);
    const cell = { button, target, picture: null };
    button.addEventListener("click", () => { stopWalk(); mark(cell); choose(cell.picture); });
    return cell;
  });
  const mark = (cell) => grid.forEach(({ button }) => button.setAttribute("aria-current", String(button === cell?.button)));
  const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
  let filling = 0;
  const fill = async (pictures, words) => {
    const own = ++filling;
    const began = performance.now();
    mark(null);
    grid.forEach((cell, n) => {
      cell.picture = pictures[n];
      cell.button.disabled = false;
      cell.button.setAttribute("aria-label", pictures[n].what);
      cell.button.title = pictures[n].what;
    });
    await paint(pictures, grid.map(({ target }) => target), () => own === filling);
    if (own !== filling) return;
    byId("grid").classList.remove("waiting");
    byId("status").textContent = `${words}, drawn in ${duration(performance.now() - began)} on this device. Choose one.`;
  };
  const kind = () => +(byId("class")?.value ?? -1);
  const from = async (seed) => {
    const pictures = [];
    for (let n = 0; n < about.grid; n++) pictures.push(await drawn(seed + n, kind()));
    await fill(pictures, `Seeds ${seed} to ${seed + about.grid - 1}`);
  };
  const chance = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
  byId("draw").addEventListener("click", () => { stopWalk(); from(chance()); });
  byId("class")?.addEventListener("change", () => from(grid[0].picture?.seed ?? chance()));
  byId("smooth").addEventListener("change", ({ target }) => byId("main").classList.toggle("smooth", target.checked));

  // What was kept: it stays over a reload, where the browser allows it.

  const store = `gankit ${about.name} ${size}`;
  const kept = [];
  const chosen = () => {
    const pressed = kept.filter(({ pressed }) => pressed);
    return pressed.length ? pressed : kept;
  };
  const remember = () => {
    try { sessionStorage.setItem(store, JSON.stringify(kept.map(address))); } catch { /* a page from disk may not */ }
  };
  const tell = () => {
    const some = chosen();
    byId("kept").hidden = !kept.length;
    byId("chosen").textContent = kept.length < 2
      ? "Keep another one, to mix the two, to walk between them or to breed from them."
      : some.length === kept.length ? "All are used; press some to use only those." : `${some.length} of ${kept.length} are used.`;
    byId("mix").disabled = byId("walk").disabled = byId("way").disabled = some.length < 2;
    byId("breed").disabled = !some.length;
    byId("way").max = Math.max(some.length - 1, 1);
  };
  const keep = async (picture) => {
    const one = { ...picture, pressed: false };
    const button = Object.assign(document.createElement("button"), { type: "button", title: picture.what });
    button.setAttribute("aria-label", `Use ${picture.what}`);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      one.pressed = !one.pressed;
      button.setAttribute("aria-pressed", String(one.pressed));
      tell();
    });
    const target = canvas();
    button.append(target);
    byId("shelf").append(button);
    one.button = button;
    kept.push(one);
    tell();
    await paint([one], [target]);
  };
  byId("keep").addEventListener("click", async () => {
    const there = kept.findIndex((one) => address(one) === address(shown));
    if (there >= 0) {
      kept.splice(there, 1)[0].button.remove();
      tell();
    } else await keep(shown);
    remember();
    mine(there < 0);
  });

  // On the straight line from one to the next, as `gankit interpolate`.
  const between = (some, at) => {
    const first = Math.min(Math.floor(at), some.length - 2);
    const share = at - first;
    const [a, b] = [some[first], some[first + 1]];
    return made(a.z.map((value, n) => value + share * (b.z[n] - value)), (share < 0.5 ? a : b).label, "Between two");
  };
  const on = (at) => {
    base = between(chosen(), at);
    sliders.forEach(({ range }) => { range.value = 0; });
    return show(base);
  };
  byId("way").addEventListener("input", ({ target }) => { stopWalk(); on(+target.value); });
  byId("way").addEventListener("change", () => choose(base));
  byId("mix").addEventListener("click", () => {
    stopWalk();
    byId("way").value = 0.5;
    choose(between(chosen(), 0.5));
  });
  let walking = false;
  const stopWalk = () => {
    walking = false;
    byId("walk").textContent = "Walk";
    byId("walk").setAttribute("aria-pressed", "false");
  };
  byId("walk").addEventListener("click", async () => {
    if (walking) { stopWalk(); return choose(base); }
    walking = true;
    byId("walk").textContent = "Stop";
    byId("walk").setAttribute("aria-pressed", "true");
    const way = byId("way");
    let at = +way.value, side = at >= +way.max ? -1 : 1, before = performance.now();
    while (walking) {
      const now = await new Promise(requestAnimationFrame);
      if (!walking) return;
      at += (side * (now - before)) / 2500; // from one to the next in two and a half seconds
      before = now;
      if (at >= +way.max || at <= 0) side = -side;
      at = Math.min(Math.max(at, 0), +way.max);
      way.value = at;
      await on(at);
    }
  });

  // A child has each number of its latent from one of its parents, and one in ten from nobody.
  byId("breed").addEventListener("click", async () => {
    stopWalk();
    const some = chosen(), children = [];
    for (let n = 0; n < about.grid; n++) {
      const seed = chance(), random = stream(seed + 2 ** 32), fresh = await latentOf(seed);
      const z = fresh.map((value, k) => (random.uniform() < 0.1 ? value : some[random.below(some.length)].z[k]));
      children.push(made(z, some[random.below(some.length)].label, "A child"));
    }
    await fill(children, `Children of ${some.length === 1 ? "one picture" : `${some.length} pictures`}`);
    byId("new").scrollIntoView({ block: "start", behavior: "smooth" });
  });

  // To take away.

  byId("save").addEventListener("click", () => {
    const times = Math.max(1, Math.ceil(LARGE / Math.min(width, height)));
    const sheet = Object.assign(document.createElement("canvas"), { width: width * times, height: height * times });
    const context = sheet.getContext("2d");
    context.imageSmoothingEnabled = byId("smooth").checked;
    context.imageSmoothingQuality = "high";
    context.drawImage(large, 0, 0, sheet.width, sheet.height);
    const name = `${about.name} ${shown.what}`.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
    sheet.toBlob((blob) => {
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${name}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }, "image/png");
  });
  byId("link").addEventListener("click", async ({ currentTarget: button }) => {
    history.replaceState(null, "", address(shown));
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "In the address";
    }
    setTimeout(() => { button.textContent = "Copy link"; }, 2000);
  });
  addEventListener("hashchange", async () => {
    const picture = location.hash === address(shown) ? null : await found(location.hash);
    if (picture) { stopWalk(); mark(null); choose(picture); }
  });

  // The beginning.

  byId("grid").classList.add("waiting");
  try {
    networks = await wake();
    const there = location.hash.length > 1 ? await found(location.hash) : null;
    const first = there ?? await drawn(1, kind());
    base = shown = first;
    put((await generate([first.z], [first.label]))[0], large);
    document.documentElement.dataset.first = Math.round(performance.now()); // milliseconds to the first picture
    byId("draw").disabled = false;
    await from(first.seed ?? 1);
    byId("change").hidden = !sliders.length;
    if (!there) mark(grid[0]);
    await choose(first);
    let before = [];
    try { before = JSON.parse(sessionStorage.getItem(store) ?? "[]"); } catch { /* as above */ }
    for (const text of before) {
      const picture = await found(text);
      if (picture) await keep(picture);
    }
  } catch (error) {
    byId("status").textContent = `The generator does not run in this browser (${error?.message ?? error}). A current Firefox, Chrome, Edge or Safari draws it.`;
    throw error;
  }
  // For the console, and for the tests: a seed's latent, and the picture of a latent as numbers in [-1, 1].
  window.gankit = { latent: async (seed) => [...(await latentOf(seed))], picture: async (z, label = 0) => [...(await generate([Float32Array.from(z)], [label]))[0]] };
})();
