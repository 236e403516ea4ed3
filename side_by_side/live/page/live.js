// The stage of `baozi demo --watch`: two runs that happen now, drawn from their journals.
"use strict";

const LIVE_WORDS = {
  en: {
    title: "Kill one of them, and see who loses a baozi",
    lede: "These processes run now, on your machine: on the left the course's own program with multiprocessing.Queue, on the right Celery on RabbitMQ. Each circle is a baozi. Kill, freeze or cut what you like.",
    start: "Start", startAgain: "Start again", other: "中文", lost: "No answer from `baozi demo`. It may have ended.",
    doings: { kill: "Kill", freeze: "Freeze", thaw: "Go on", restart: "Start again", cut: "Cut the network", join: "Mend the network" },
    conditions: { runs: "", frozen: "❄ frozen", killed: "✕ killed", ended: "✓ has ended", cut: "✂ cut", starts: "… starts" },
    progress: { starting: "… The processes start.", running: "▶ It runs.", stuck: "∥ Stuck: nothing happens any more, and it will not end.", over: "✓ The program has ended." },
    overLost: "✕ The program has ended, and {lost} are lost.",
    audit: "The audit now", name: "{doing}: {name}", network: "Network", asked: "{doing}: {name} – done.",
  },
  zh: {
    title: "杀掉其中一个，看谁丢了包子",
    lede: "这些进程现在就在你的机器上运行：左边是课程自己的程序，用 multiprocessing.Queue；右边是 RabbitMQ 上的 Celery。每个圆是一个包子。想杀、想冻结、想断开，都可以。",
    start: "开始", startAgain: "重新开始", other: "English", lost: "`baozi demo` 没有响应。它可能已经结束。",
    doings: { kill: "杀掉", freeze: "冻结", thaw: "继续", restart: "重新启动", cut: "断开网络", join: "恢复网络" },
    conditions: { runs: "", frozen: "❄ 冻结", killed: "✕ 被杀", ended: "✓ 已结束", cut: "✂ 断开", starts: "… 正在启动" },
    progress: { starting: "… 进程正在启动。", running: "▶ 正在运行。", stuck: "∥ 卡死：再也没有动静，也不会结束。", over: "✓ 程序结束了。" },
    overLost: "✕ 程序结束了，丢了 {lost} 个。",
    audit: "此刻的审计", name: "{doing}：{name}", network: "网络", asked: "{doing}：{name}，已完成。",
  },
};
const SIDES = ["left", "right"];
/** Later than every line of a journal, and earlier than the end of a run that goes on. */
const NOW = Number.MAX_SAFE_INTEGER;
const CALM = window.matchMedia("(prefers-reduced-motion: reduce)");
const page = { language: location.hash === "#zh" || (location.hash !== "#en" && navigator.language.startsWith("zh")) ? "zh" : "en", lanes: new Map(), readings: new Map(), told: null };
const live = () => LIVE_WORDS[page.language];

/** The run as the drawing of the lesson knows it: without an end as long as it goes on. */
function runOf(facts) {
  const stands = facts.progress === "over" || facts.progress === "stuck";
  const killed = facts.parts.find((part) => part.condition === "killed" && part.role === "consumer");
  return {
    transport: facts.transport, without: null, work: facts.work, lines: facts.lines, counts: facts.counts,
    seconds: stands ? 0 : Infinity, verdict: facts.progress === "stuck" ? "wedged" : "sound",
    kill: killed ? { at: 0, role: killed.role, name: killed.name, back_at: null } : null,
  };
}

class LiveLane extends Lane {
  constructor(name, facts) {
    super(runOf(facts), SIDES.indexOf(name), page.language);
    this.name = name;
    this.audit = element("dl", { class: "audit", "aria-label": live().audit });
    this.progress = element("p", { class: "progress", role: "status" });
    this.network = element("div", { class: "doings" });
    this.sums.after(this.progress, this.audit, this.network);
    for (const { box, list } of this.zones.values()) {
      if (box.dataset.zone !== "eaten") list.before(element("div", { class: "doings" }));
    }
  }

  /** Shows the newest reading. */
  update(facts) {
    this.facts = facts;
    this.run = runOf(facts);
    this.root.dataset.progress = facts.progress;
    this.show(NOW, CALM.matches ? 0 : 250);
    const isLost = facts.progress === "over" && facts.counts.lost;
    const said = isLost ? fill(live().overLost, facts.counts) : live().progress[facts.progress];
    if (this.progress.textContent !== said) this.progress.textContent = said;
    this.audit.replaceChildren(...Object.entries(this.words.audit).map(([key, name]) =>
      element("div", {}, element("dt", {}, name), element("dd", { "data-audit": key }, String(facts.counts[key])))));
    for (const part of facts.parts) this._showPart(part);
  }

  _showPart(part) {
    const isNetwork = part.role === "network";
    const zone = isNetwork ? null : this.zones.get(part.role === "store" ? "store" : `${part.role}:${part.name}`);
    const name = isNetwork ? live().network : part.name;
    if (zone) {
      zone.box.dataset.condition = part.condition;
      zone.status.textContent = live().conditions[part.condition];
    }
    const place = zone ? zone.box.querySelector(".doings") : this.network;
    // Buttons that stay the same are not replaced, so that the focus stays.
    if (place.dataset.doings === part.doings.join()) return;
    const had = place.contains(document.activeElement);
    place.dataset.doings = part.doings.join();
    place.replaceChildren(...part.doings.map((doing) => {
      const button = element("button", { type: "button", "data-doing": doing, "aria-label": fill(live().name, { doing: live().doings[doing], name }) }, live().doings[doing]);
      button.addEventListener("click", () => act(this.name, doing, part, name));
      return button;
    }));
    if (had && place.firstChild) place.firstChild.focus();
  }

  _showProcesses() { /* What is alive is known from the processes, not from the journals. */ }

  _sentence(seconds, at) { return super._sentence(seconds, { ...at, ended: false, killed: null }); }
}

async function request(action, wanted) {
  try {
    const answer = await fetch(action, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wanted) });
    const body = await answer.json();
    if (!answer.ok) tell(body.problem);
    return answer.ok;
  } catch {
    tell({ en: LIVE_WORDS.en.lost, zh: LIVE_WORDS.zh.lost });
    return false;
  }
}

async function act(side, doing, part, name) {
  if (!await request("act", { side, doing, role: part.role, name: part.name })) return;
  const told = {};
  for (const language of ["en", "zh"]) {
    const words = LIVE_WORDS[language];
    told[language] = fill(words.asked, { doing: words.doings[doing], name: part.role === "network" ? words.network : name });
  }
  tell(told);
}

function tell(told) {
  page.told = told;
  document.getElementById("told").textContent = told ? told[page.language] : "";
}

function show(name) {
  const reading = page.readings.get(name);
  if (!reading || !reading.facts.work) return;
  const { facts } = reading;
  let lane = page.lanes.get(name);
  if (!lane || lane.round !== facts.round || lane.language !== page.language) {
    const made = new LiveLane(name, facts);
    made.round = facts.round;
    if (lane) lane.root.replaceWith(made.root);
    else if (name === "left") document.getElementById("lanes").prepend(made.root);
    else document.getElementById("lanes").append(made.root);
    page.lanes.set(name, made);
    lane = made;
    document.getElementById("start").textContent = live().startAgain;
  }
  lane.update(facts);
  if (reading.problem) tell(reading.problem);
}

function showAll() {
  document.documentElement.lang = page.language === "zh" ? "zh-CN" : "en";
  for (const id of ["title", "lede"]) document.getElementById(id).textContent = live()[id];
  document.getElementById("language").textContent = live().other;
  document.getElementById("start").textContent = page.lanes.size ? live().startAgain : live().start;
  const states = Object.entries(WORDS[page.language].states);
  document.getElementById("legend").replaceChildren(element("ul", { "aria-label": WORDS[page.language].legend }, ...states.map(([state, [, name]]) =>
    element("li", {}, element("span", { class: "token", "data-state": state, "aria-hidden": "true" }, "a0", element("i", {}, SIGNS[state])), name))));
  SIDES.forEach(show);
  tell(page.told);
}

let stream = null;
function look() {
  if (document.hidden) { if (stream) { stream.close(); stream = null; } return; }
  if (stream) return;
  stream = new EventSource("events");
  stream.addEventListener("message", (event) => {
    const reading = JSON.parse(event.data);
    page.readings.set(reading.name, reading);
    show(reading.name);
  });
  stream.addEventListener("error", () => tell({ en: LIVE_WORDS.en.lost, zh: LIVE_WORDS.zh.lost }));
  stream.addEventListener("open", () => tell(null));
}

document.getElementById("start").addEventListener("click", () => { tell(null); request("start", {}); });
document.getElementById("language").addEventListener("click", () => {
  page.language = page.language === "en" ? "zh" : "en";
  history.replaceState(null, "", `#${page.language}`);
  showAll();
});
document.addEventListener("visibilitychange", look);
window.addEventListener("pageshow", look);
showAll();
look();
