// The reader's part: choose, predict, watch. Two lanes on one clock.
"use strict";

const RECORDING = JSON.parse(document.getElementById("recording").textContent);
const SPEEDS = [0.5, 1, 2, 4];
const CALM = window.matchMedia("(prefers-reduced-motion: reduce)");
const byId = (id) => document.getElementById(id);

/** The key of a run's transport: "celery", or "celery/confirms" without a setting. */
const laneKey = (run) => (run.without ? `${run.transport}/${run.without}` : run.transport);
const runsOf = (failure) => RECORDING.runs.filter((run) => run.failure === failure);
const runOf = (failure, key) => runsOf(failure).find((run) => laneKey(run) === key);

const page = {
  language: /^zh\b/i.test(navigator.language || "") ? "zh" : "en",
  chapter: 0,
  scene: null,
  predictions: [undefined, undefined],
  watching: false,
  playing: false,
  shown: 0,
  speed: 1,
  lanes: [],
  clock: null,
};

const words = () => WORDS[page.language];
const lastShown = () => page.clock.moments.at(-1).shown;

/** The place of the last moment that has come. */
function placeNow() {
  const { moments } = page.clock;
  let place = 0;
  while (place + 1 < moments.length && moments[place + 1].shown <= page.shown + 1e-9) place += 1;
  return place;
}

/** Shows both runs at the moment `shown` (seconds on the page's clock). */
function showAt(shown, milliseconds = 0) {
  page.shown = Math.max(0, Math.min(shown, lastShown()));
  const moment = page.clock.moments[placeNow()];
  const states = page.lanes.map((lane, side) => lane.show(round(moment.at - page.clock.shifts[side]), milliseconds));
  const isOver = page.shown >= lastShown();
  page.lanes.forEach((lane, side) =>
    lane.showOutcome(page.watching && states[side].ended ? page.predictions[side] : undefined));
  const seconds = Math.max(0, moment.at - page.clock.moments[1].at).toFixed(1);
  const scrub = byId("scrub");
  scrub.value = String(page.shown);
  scrub.setAttribute("aria-valuetext", fill(words().clock, { seconds }));
  byId("clock").textContent = fill(words().clock, { seconds });
  byId("next").hidden = !(isOver && page.watching);
  document.body.dataset.over = isOver && page.watching ? "yes" : "no";
  return isOver;
}

function announce(text) { byId("announcement").textContent = text; }

function sentences() {
  return page.lanes.map((lane) => `${lane.title}: ${lane.now.textContent}`).join(" ");
}

function setPlaying(playing) {
  if (playing && page.shown >= lastShown()) showAt(0);
  page.playing = playing;
  byId("play").textContent = playing ? `⏸ ${words().pause}` : `▶ ${words().play}`;
  if (playing) { page.lastFrame = undefined; requestAnimationFrame(frame); }
}

function frame(now) {
  if (!page.playing) return;
  const passed = page.lastFrame === undefined ? 0 : Math.min(0.25, (now - page.lastFrame) / 1000);
  page.lastFrame = now;
  const before = placeNow();
  page.shown = Math.min(lastShown(), page.shown + passed * page.speed);
  if (placeNow() !== before) {
    if (showAt(page.shown, CALM.matches ? 0 : Math.min(350, 350 / page.speed))) { end(); return; }
  } else {
    byId("scrub").value = String(page.shown);
  }
  requestAnimationFrame(frame);
}

/** The end of both runs: says what became of the baozi. */
function end() {
  setPlaying(false);
  announce(page.lanes.map((lane) => `${lane.title}: ${words().verdicts[lane.run.verdict]}.`).join(" "));
  page.lanes[0].outcome.scrollIntoView({ block: "nearest", behavior: CALM.matches ? "auto" : "smooth" });
}

function step(by) {
  if (!page.watching) return;
  setPlaying(false);
  const place = Math.max(0, Math.min(page.clock.moments.length - 1, placeNow() + by));
  const isOver = showAt(page.clock.moments[place].shown, CALM.matches ? 0 : 250);
  if (isOver) end();
  else announce(sentences());
}

function watch() {
  if (page.predictions.some((one) => one === undefined)) {
    byId("hint").textContent = words().chooseFirst;
    const side = page.predictions.indexOf(undefined);
    document.querySelector(`input[name="side-${side}"]`).focus();
    return;
  }
  page.watching = true;
  byId("prediction").hidden = true;
  showPlayer();
  showAt(0);
  setPlaying(true);
  byId("play").focus({ preventScroll: true });
  byId("lanes").scrollIntoView({ block: "nearest" });
}

/** The player is there when something can be watched: before, it would cover the questions on a phone. */
function showPlayer() { byId("player").hidden = !page.watching; }

/** Opens a chapter (0 to 5), or free play (6). */
function openChapter(chapter, { focus = true } = {}) {
  page.chapter = chapter;
  if (chapter < CHAPTERS.length) {
    const { failure, left, right } = CHAPTERS[chapter];
    page.scene = { failure, keys: [left, right] };
  } else if (!page.scene) {
    page.scene = { failure: "kill-busy-consumer", keys: ["queue", "celery"] };
  }
  restart();
  const mark = chapter < CHAPTERS.length ? chapter + 1 : "free";
  history.replaceState(null, "", `#${page.language}/${mark}`);
  if (focus) byId("heading").focus({ preventScroll: true });
}

/** Starts the scene again, with a new prediction. */
function restart() {
  page.playing = false;
  page.watching = false;
  page.predictions = [undefined, undefined];
  draw();
}

/** Draws all, in the page's language. What the reader has predicted and seen stays. */
function draw() {
  const { failure, keys } = page.scene;
  const runs = keys.map((key) => runOf(failure, key));
  page.clock = clockOf(runs);
  page.lanes = runs.map((run, side) => new Lane(run, side, page.language));
  document.documentElement.lang = page.language === "zh" ? "zh-CN" : "en";
  document.title = words().title;
  for (const node of document.querySelectorAll("[data-word]")) node.innerHTML = words()[node.dataset.word];
  byId("language").textContent = words().switch;
  byId("language").lang = page.language === "zh" ? "en" : "zh-CN";
  drawChapters();
  drawIntro(runs);
  drawPrediction(runs);
  byId("lanes").replaceChildren(...page.lanes.map((lane) => lane.root));
  drawPlayer();
  drawLegend();
  byId("keys").textContent = words().keys;
  byId("recorded").textContent = fill(words().recorded, {
    date: new Date(RECORDING.made_at * 1000).toISOString().slice(0, 10),
    python: RECORDING.machine.python,
    rabbitmq: RECORDING.machine.versions.rabbitmq,
    celery: RECORDING.machine.versions.celery,
  });
  showPlayer();
  showAt(page.watching ? page.shown : 0);
  reserve();
}

function reserve() { for (const lane of page.lanes) lane.reserve(); }

function titleOf(chapter) {
  return chapter < CHAPTERS.length ? CHAPTERS[chapter][page.language][0] : words().free;
}

function drawChapters() {
  const list = element("ol");
  for (let chapter = 0; chapter <= CHAPTERS.length; chapter += 1) {
    const name = chapter < CHAPTERS.length ? String(chapter + 1) : words().free;
    const button = element("button", {
      type: "button", title: titleOf(chapter), "data-chapter": String(chapter),
      "aria-label": chapter < CHAPTERS.length ? `${fill(words().chapter, { number: name })}: ${titleOf(chapter)}` : null,
      "aria-current": chapter === page.chapter ? "step" : null,
    }, name);
    button.addEventListener("click", () => openChapter(chapter));
    list.append(element("li", {}, button));
  }
  byId("chapters").setAttribute("aria-label", words().chapters);
  byId("chapters").replaceChildren(list);
}

function drawIntro(runs) {
  const isFree = page.chapter >= CHAPTERS.length;
  byId("heading").textContent = isFree ? words().free : `${page.chapter + 1}. ${titleOf(page.chapter)}`;
  byId("text").textContent = isFree ? "" : CHAPTERS[page.chapter][page.language][1];
  const tray = runs.find((run) => run.work.tray > 1);
  byId("tray").textContent = tray ? fill(words().tray, tray.work) : "";
  byId("choice").hidden = !isFree;
  byId("choice").replaceChildren(...(isFree ? choices() : []));
}

function choices() {
  const { failure, keys } = page.scene;
  const named = (key) => {
    const [transport, setting] = key.split("/");
    return setting ? SETTINGS[setting][page.language] : TRANSPORTS[transport][page.language][0];
  };
  const select = (label, options, chosen, change) => {
    const list = element("select", {}, ...options.map(([value, name]) =>
      element("option", { value, selected: value === chosen }, name)));
    list.addEventListener("change", () => {
      const place = [...byId("choice").querySelectorAll("select")].indexOf(list);
      change(list.value);
      restart();
      byId("choice").querySelectorAll("select")[place].focus();
    });
    return element("label", {}, label, list);
  };
  const lanes = runsOf(failure).map((run) => [laneKey(run), named(laneKey(run))]);
  return [
    select(words().failure, Object.entries(FAILURES).map(([name, text]) => [name, text[page.language]]), failure, (name) => {
      const there = runsOf(name).map(laneKey);
      page.scene = { failure: name, keys: keys.map((key, side) => (there.includes(key) ? key : there.at(side ? -1 : 0))) };
    }),
    select(words().left, lanes, keys[0], (key) => { page.scene = { failure, keys: [key, keys[1]] }; }),
    select(words().right, lanes, keys[1], (key) => { page.scene = { failure, keys: [keys[0], key] }; }),
  ];
}

/** How many items a run is about: "12 baozi", "10 trays". */
function countOf(run) {
  return fill(run.work.tray > 1 ? words().tokens.tray : words().tokens.one, { count: tokensOf(run).length });
}

function drawPrediction(runs) {
  const form = byId("prediction");
  const sides = runs.map((run, side) => {
    const answers = Object.entries(words().verdicts).map(([verdict, text]) => {
      const input = element("input", { type: "radio", name: `side-${side}`, value: verdict, checked: page.predictions[side] === verdict });
      input.addEventListener("change", () => {
        page.predictions[side] = verdict;
        byId("hint").textContent = "";
      });
      return element("label", {}, input, text);
    });
    return element("fieldset", {}, element("legend", {}, page.lanes[side].title), ...answers);
  });
  form.hidden = page.watching;
  form.replaceChildren(
    element("p", { class: "ask" }, fill(words().predict, { count: countOf(runs[0]) })),
    element("div", { class: "sides" }, ...sides),
    element("div", { class: "go" },
      element("button", { type: "submit", class: "main", id: "watch" }, `▶ ${words().watch}`),
      element("span", { id: "hint", role: "alert" }, words().predictHint)));
}

function drawPlayer() {
  const button = (id, text, action, name = null) => {
    const made = element("button", { type: "button", id, "aria-label": name, title: name }, text);
    made.addEventListener("click", action);
    return made;
  };
  const scrub = element("input", {
    type: "range", id: "scrub", min: "0", max: String(lastShown()), step: "0.01", "aria-label": words().scrub,
  });
  scrub.addEventListener("input", () => { setPlaying(false); if (showAt(Number(scrub.value))) end(); });
  const speed = element("select", { id: "speed", "aria-label": words().speed },
    ...SPEEDS.map((one) => element("option", { value: String(one), selected: one === page.speed }, `${one}×`)));
  speed.addEventListener("change", () => { page.speed = Number(speed.value); });
  const following = (page.chapter + 1) % (CHAPTERS.length + 1);
  const next = button("next", fill(words().next, { title: titleOf(following) }), () => { openChapter(following); window.scrollTo(0, 0); });
  next.className = "main";
  const player = byId("player");
  player.setAttribute("aria-label", words().controls);
  player.replaceChildren(
    button("play", `▶ ${words().play}`, () => setPlaying(!page.playing)),
    button("back", "◀|", () => step(-1), words().back),
    button("step", "|▶", () => step(1), words().step),
    scrub, element("output", { id: "clock", for: "scrub" }), speed, next);
  if (page.playing) setPlaying(true);
}

function drawLegend() {
  byId("legend").setAttribute("aria-label", words().legend);
  byId("legend").replaceChildren(element("ul", {}, ...Object.entries(words().states).map(([state, [, meaning]]) =>
    element("li", {}, element("span", { class: "token", "data-state": state, "aria-hidden": "true" }, "a0", element("i", {}, SIGNS[state])), meaning))));
}

function chooseKey(event) {
  const isField = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (!isField && /^[1-6]$/.test(event.key)) { openChapter(Number(event.key) - 1); return; }
  if (!page.watching || (isField && event.target.id !== "scrub")) return;
  const onButton = event.target.closest("button") && event.key === " ";
  const actions = {
    " ": () => setPlaying(!page.playing), ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    Home: () => { setPlaying(false); showAt(0); }, End: () => { setPlaying(false); showAt(lastShown()); end(); },
  };
  if (actions[event.key] && !onButton) { event.preventDefault(); actions[event.key](); }
}

byId("prediction").addEventListener("submit", (event) => { event.preventDefault(); watch(); });
byId("language").addEventListener("click", () => {
  page.language = page.language === "zh" ? "en" : "zh";
  draw();
  rememberPlace();
});
document.addEventListener("keydown", chooseKey);
window.addEventListener("resize", reserve);

/** Writes language and chapter into the address, so that a link to this page keeps them. */
function rememberPlace() {
  history.replaceState(null, "", `#${page.language}/${page.chapter < CHAPTERS.length ? page.chapter + 1 : "free"}`);
}

const [wanted, mark] = location.hash.slice(1).split("/");
if (wanted in WORDS) page.language = wanted;
openChapter(mark === "free" ? CHAPTERS.length : Math.min(CHAPTERS.length, Math.max(1, Number(mark) || 1)) - 1, { focus: false });
