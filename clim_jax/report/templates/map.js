"use strict";
(() => {
  const { map, tile } = JSON.parse(document.getElementById("data").textContent);
  const unpack = (text, Kind) =>
    new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const maps = map.maps.map(({ name, places }) =>
    ({ name, places: unpack(places, Uint16Array) }));
  const tiles = unpack(map.tiles, Uint32Array);
  const ids = unpack(map.ids, Uint32Array);
  const neighbours = unpack(map.neighbours, Uint32Array);
  const colours = map.colours.map(({ name, codes, names }) =>
    ({ name, names, codes: unpack(codes, Int32Array) }));

  const canvas = document.getElementById("canvas");
  const box = canvas.parentElement;
  const tip = document.getElementById("tip");
  const select = document.getElementById("colour");
  const asImages = document.getElementById("as-images");
  const brush = canvas.getContext("2d");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Colours that are told apart, on light and on dark.
  const FEW = ["#3f7fc4", "#e8662f", "#3fa34d", "#b04fc0", "#d4a514", "#1fa6a6",
    "#e0559b", "#8c6239", "#7a7f87", "#9bc53d"];
  const MARGIN = 14, NEAR = 12, CLICK = 4;
  let places = maps[0].places, width = 0, height = 0, scale = 1, left = 0, top = 0;
  let colour = colours[0], picked = new Set(), hovered = -1, lasso = null;

  const layout = document.getElementById("layout");
  for (const { name } of colours) select.add(new Option(name, name));
  for (const { name } of maps) layout.add(new Option(name, name));
  layout.parentElement.hidden = maps.length === 1;

  // Where a dot lies on the canvas, in CSS pixels.
  const x = (i) => ((places[2 * i] / 65535) * (width - 2 * MARGIN) + MARGIN) * scale + left;
  const y = (i) =>
    ((1 - places[2 * i + 1] / 65535) * (height - 2 * MARGIN) + MARGIN) * scale + top;

  function tint(code, count) {
    const light = dark.matches ? 66 : 45;
    if (code < 0) return dark.matches ? "#59616b" : "#b9bfc6";
    if (count <= FEW.length) return FEW[code];
    const hue = (code * 137.508) % 360;
    return `hsl(${hue} ${code % 2 ? 55 : 80}% ${light + (code % 3) * 5 - 5}%)`;
  }

  const sprite = new Image();
  const url = getComputedStyle(document.querySelector(".t")).backgroundImage;
  sprite.src = url.slice(url.indexOf("data:"), url.lastIndexOf(")")).replace(/"/g, "");
  sprite.onload = () => draw();

  function draw() {
    const ratio = devicePixelRatio || 1;
    width = box.clientWidth; height = box.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.clearRect(0, 0, width, height);
    const count = colour.names.length || 99;
    const size = Math.min(18 * Math.sqrt(scale), 64);
    const radius = (map.count > 2000 ? 2.2 : 3) * Math.min(Math.sqrt(scale), 2);
    for (let i = 0; i < map.count; i++) {
      const isFaint = picked.size && !picked.has(i);
      brush.globalAlpha = isFaint ? 0.25 : 0.9;
      if (asImages.checked && sprite.complete) {
        paint(i, x(i) - size / 2, y(i) - size / 2, size);
        continue;
      }
      brush.fillStyle = tint(colour.codes[i], count);
      brush.beginPath();
      brush.arc(x(i), y(i), radius, 0, 7);
      brush.fill();
    }
    brush.globalAlpha = 1;
    if (hovered >= 0) ring(hovered);
    if (lasso && lasso.length > 1) {
      brush.strokeStyle = brush.fillStyle = getComputedStyle(box).color;
      brush.beginPath();
      lasso.forEach(([a, b]) => brush.lineTo(a, b));
      brush.closePath();
      brush.stroke();
      brush.globalAlpha = 0.08;
      brush.fill();
      brush.globalAlpha = 1;
    }
  }

  function paint(i, a, b, size) {
    const column = tiles[i] % tile.columns, row = Math.floor(tiles[i] / tile.columns);
    brush.drawImage(sprite, column * tile.side, row * tile.side, tile.side, tile.side, a, b, size, size);
  }

  function ring(i) {
    brush.strokeStyle = getComputedStyle(box).color;
    brush.lineWidth = 2;
    brush.beginPath();
    brush.arc(x(i), y(i), 7, 0, 7);
    brush.stroke();
    brush.lineWidth = 1;
  }

  function nearest(a, b) {
    let best = -1, least = NEAR * NEAR;
    for (let i = 0; i < map.count; i++) {
      const d = (x(i) - a) ** 2 + (y(i) - b) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  }

  function isInside(i, ring) {
    const a = x(i), b = y(i);
    let inside = false;
    for (let m = 0, n = ring.length - 1; m < ring.length; n = m++) {
      const [ax, ay] = ring[m], [bx, by] = ring[n];
      if (ay > b !== by > b && a < ((bx - ax) * (b - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside;
  }

  function say(i) {
    const known = colours.filter(({ codes }) => codes[i] >= 0);
    const words = known.map(({ name, names, codes }) =>
      `${name}: ${names.length ? names[codes[i]] : codes[i]}`);
    return [`image ${ids[i]}`, ...words];
  }

  function thumb(i) {
    const shown = document.createElement("i");
    shown.className = "t";
    shown.style.setProperty("--x", tiles[i] % tile.columns);
    shown.style.setProperty("--y", Math.floor(tiles[i] / tile.columns));
    shown.title = say(i).join(", ");
    shown.onclick = () => pick(i);
    return shown;
  }

  function list(title, some) {
    const MOST = 300;
    const out = document.getElementById("picked");
    const head = document.createElement("p");
    head.textContent = title + (some.length > MOST ? `, the first ${MOST} of them` : "");
    const strip = document.createElement("div");
    strip.className = "strip";
    some.slice(0, MOST).forEach((i) => strip.append(thumb(i)));
    out.replaceChildren(head, strip);
  }

  function pick(i) {
    const some = [...neighbours.slice(i * map.shown, (i + 1) * map.shown)];
    picked = new Set([i, ...some]);
    list(`${say(i).join(", ")}; first the image itself, then its nearest training images`, [i, ...some]);
    draw();
  }

  function legend() {
    const out = document.getElementById("legend");
    out.replaceChildren();
    colour.names.slice(0, 40).forEach((name, code) => {
      const entry = document.createElement("span"), dot = document.createElement("i");
      dot.style.background = tint(code, colour.names.length);
      entry.append(dot, name);
      out.append(entry);
    });
  }

  const at = (event) => {
    const { left: a, top: b } = canvas.getBoundingClientRect();
    return [event.clientX - a, event.clientY - b];
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    lasso = [at(event)];
    tip.hidden = true;
  };
  canvas.onpointermove = (event) => {
    const here = at(event);
    if (lasso) {
      lasso.push(here);
      draw();
      return;
    }
    const found = nearest(...here);
    if (found === hovered) return;
    hovered = found;
    tip.hidden = found < 0;
    if (found >= 0) {
      const shown = thumb(found);
      shown.classList.add("big");
      const words = document.createElement("div");
      words.innerText = say(found).join("\n");
      tip.replaceChildren(shown, words);
      tip.style.left = `${Math.min(x(found) + 12, width - 172)}px`;
      tip.style.top = `${Math.min(y(found) + 12, height - 172)}px`;
    }
    draw();
  };
  canvas.onpointerup = (event) => {
    if (!lasso) return;
    const ring = lasso, here = at(event);
    lasso = null;
    const moved = Math.max(...ring.map(([a, b]) => Math.hypot(a - ring[0][0], b - ring[0][1])));
    if (moved < CLICK) {
      const found = nearest(...here);
      if (found >= 0) pick(found);
      else { picked = new Set(); document.getElementById("picked").replaceChildren(); draw(); }
      return;
    }
    const some = [...tiles.keys()].filter((i) => isInside(i, ring));
    picked = new Set(some);
    list(`${some.length} images inside`, some);
    draw();
  };
  canvas.onpointercancel = () => { lasso = null; draw(); };
  canvas.onpointerleave = () => { hovered = -1; tip.hidden = true; draw(); };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [a, b] = at(event), before = scale;
    scale = Math.min(40, Math.max(1, scale * Math.exp(-event.deltaY / 300)));
    left = scale === 1 ? 0 : a - ((a - left) * scale) / before;
    top = scale === 1 ? 0 : b - ((b - top) * scale) / before;
    draw();
  }, { passive: false });
  document.getElementById("reset").onclick = () => {
    scale = 1; left = top = 0; picked = new Set();
    document.getElementById("picked").replaceChildren();
    draw();
  };
  layout.onchange = () => {
    ({ places } = maps.find(({ name }) => name === layout.value));
    draw();
  };
  select.onchange = () => {
    colour = colours.find(({ name }) => name === select.value);
    legend();
    draw();
  };
  asImages.onchange = draw;
  dark.onchange = () => { legend(); draw(); };
  new ResizeObserver(draw).observe(box);
  legend();
  draw();
})();
