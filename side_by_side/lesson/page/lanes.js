// Draws one run: its producers, its store, its consumers and what is eaten, with each token in its place.
"use strict";

/** The sign below the number of a token, so that no state is told by colour alone. */
const SIGNS = {
  unmade: "", attempted: "→", accepted: "●", hand: "◐", eaten: "✓", twice: "×2", lost: "✕", stuck: "∥",
};

/** Fills the places `{name}` of a sentence. */
const fill = (sentence, values = {}) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** Creates an element with attributes and children; `html` is for words of the page only. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "html") made.innerHTML = value;
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

class Lane {
  /** Draws `run` in the language of `words`; `side` is 0 on the left and 1 on the right. */
  constructor(run, side, language) {
    this.run = run;
    this.side = side;
    this.words = WORDS[language];
    this.language = language;
    this.zones = new Map();
    this.tokens = new Map();
    this.root = this._made();
  }

  /** The name of its transport, without the setting that is removed. */
  get title() {
    return this.run.without ? SETTINGS[this.run.without][this.language] : TRANSPORTS[this.run.transport][this.language][0];
  }

  get storeName() { return TRANSPORTS[this.run.transport][this.language][1]; }

  /** A token's label: the producer's first letter and the number. */
  label(producer, number) { return `${producer[0]}${number}`; }

  _made() {
    const { run, words } = this;
    const zone = (key, name, note, wide) => {
      const list = element("ul", { "aria-label": name });
      const status = element("span", { class: "status" });
      const box = element("div", { class: wide ? "zone wide" : "zone", "data-zone": key },
        element("div", { class: "name" }, element("span", {}, name), status, element("small", {}, note)), list);
      this.zones.set(key, { box, list, status });
      return box;
    };
    const room = run.work.capacity ? ` (${fill(words.room, run.work)})` : "";
    const zones = element("div", { class: "zones" },
      ...run.work.producers.map((name) =>
        zone(`producer:${name}`, name, words.roles.producer, run.work.producers.length === 1)),
      zone("store", this.storeName + room, TRANSPORTS[run.transport][this.language][2], true),
      ...run.work.consumers.map((name) => zone(`consumer:${name}`, name, words.roles.consumer, false)),
      zone("eaten", words.eatenZone, "", true));
    for (const token of tokensOf(run)) {
      this.tokens.set(token.id, element("li", { class: "token", "data-token": token.id },
        this.label(token.producer, token.number), element("i", { "aria-hidden": "true" })));
    }
    this.now = element("p", { class: "now" });
    this.sums = element("p", { class: "sums" });
    this.outcome = element("div", { class: "outcome", hidden: true });
    const heading = element("h3", { id: `lane-${this.side}` }, this.title);
    return element("section", { class: "lane", "aria-labelledby": heading.id, "data-lane": `${this.side}` },
      heading, zones, this.now, this.sums, this.outcome);
  }

  /** Reserves the height that each zone needs at any moment, so that nothing moves but the tokens. */
  reserve() {
    const most = new Map();
    for (const seconds of [-1, ...momentsOf(this.run)]) {
      const now = new Map();
      for (const token of stateAt(this.run, seconds).tokens) {
        const zone = this._zoneOf(token);
        now.set(zone, (now.get(zone) || 0) + 1);
      }
      for (const [zone, count] of now) most.set(zone, Math.max(count, most.get(zone) || 0));
    }
    const gap = 4; // pixels, as in the style sheet
    const size = this.tokens.values().next().value.offsetWidth + gap;
    for (const [key, { list }] of this.zones) {
      const columns = Math.max(1, Math.floor((list.clientWidth + gap) / size));
      list.style.minHeight = `${Math.ceil((most.get(key) || 1) / columns) * size - gap}px`;
    }
  }

  /** Where a token is drawn. What is lost or stuck stays where it was last seen. */
  _zoneOf(token) {
    if (token.eaten) return "eaten";
    if (token.startedBy) return `consumer:${token.startedBy}`;
    return token.accepted ? "store" : `producer:${token.producer}`;
  }

  /** Shows the run at `seconds`; moves tokens visibly in `milliseconds`, or at once if that is 0. */
  show(seconds, milliseconds) {
    const at = stateAt(this.run, seconds);
    const before = new Map();
    if (milliseconds) {
      for (const [id, drawn] of this.tokens) if (drawn.isConnected) before.set(id, drawn.getBoundingClientRect());
    }
    const moved = [];
    for (const token of at.tokens) {
      const drawn = this.tokens.get(token.id);
      const list = this.zones.get(this._zoneOf(token)).list;
      if (drawn.parentNode !== list) { list.append(drawn); moved.push(token.id); }
      if (drawn.dataset.state !== token.state) {
        drawn.dataset.state = token.state;
        drawn.lastChild.textContent = SIGNS[token.state];
        const name = `${this.label(token.producer, token.number)}: ${this.words.states[token.state][1]}`;
        drawn.setAttribute("title", name);
        drawn.setAttribute("aria-label", name);
      }
    }
    for (const id of moved) this._slide(this.tokens.get(id), before.get(id), milliseconds);
    this._showProcesses(at, seconds);
    this._showSums(at);
    this.now.textContent = this._sentence(seconds, at);
    return at;
  }

  _slide(drawn, from, milliseconds) {
    if (!from || !milliseconds || !drawn.animate) return;
    const to = drawn.getBoundingClientRect();
    drawn.animate(
      [{ transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` }, { transform: "none" }],
      { duration: milliseconds, easing: "ease-out" });
  }

  _showProcesses(at, seconds) {
    const { kill } = this.run;
    for (const [key, { box, status }] of this.zones) {
      const isKilled = at.killed !== null && key === (kill.role === "store" ? "store" : `${kill.role}:${kill.name}`);
      const isBack = isKilled && kill.back_at !== null && kill.back_at <= seconds;
      box.dataset.killed = isKilled && !isBack ? "yes" : "no";
      status.textContent = isBack ? `↻ ${this.words.backAgain}` : isKilled ? `✕ ${this.words.killed}` : "";
    }
  }

  _showSums(at) {
    const shown = Object.entries(this.words.states).filter(([state]) => at.states[state]);
    const total = fill(this.words.sum, { total: at.tokens.length });
    this.sums.replaceChildren(
      ...shown.map(([state, [name]]) => element("span", { "data-sum": state }, `${name} `, element("b", {}, String(at.states[state])))),
      element("span", {}, `= ${total}`));
  }

  /** The sentence about the newest thing that has happened. */
  _sentence(seconds, at) {
    const { run, words } = this;
    if (at.ended) return run.verdict === "wedged" ? words.lines.silence : words.lines.end;
    const holders = new Map();
    const events = [];
    for (const [when, event, producer, number, who] of run.lines) {
      if (when > seconds) break;
      const token = this.label(producer, number);
      const before = holders.get(token);
      events.push([when, event === EVENTS.STARTED && before ? "again" : event, { who, token, before }]);
      if (event === EVENTS.STARTED) holders.set(token, who);
    }
    if (at.killed) {
      const who = run.kill.role === "store" ? this.storeName : run.kill.name;
      events.push([run.kill.at, "kill", { who }]);
      if (run.kill.back_at !== null && run.kill.back_at <= seconds) events.push([run.kill.back_at, "back", { who }]);
    }
    if (!events.length) return words.nothing;
    const newest = events.reduce((best, one) => (one[0] >= best[0] ? one : best));
    return fill(words.lines[newest[1]], newest[2]);
  }

  /** Shows what the audit says, and whether it was predicted; null hides it. */
  showOutcome(predicted) {
    const { run, words } = this;
    this.outcome.hidden = predicted === undefined;
    if (this.outcome.hidden) return;
    const { counts } = run;
    const columns = Object.entries(words.audit);
    const reason = REASONS[`${run.failure}/${run.transport}${run.without ? `/${run.without}` : ""}`];
    const isRight = predicted === run.verdict;
    this.outcome.className = run.verdict === "sound" ? "outcome" : "outcome bad";
    this.outcome.replaceChildren(
      element("p", { class: "verdict" }, `${{ sound: "✓", lost: "✕", duplicated: "×2", wedged: "∥" }[run.verdict]} ${words.verdicts[run.verdict]}`),
      element("dl", { "aria-label": words.outcome },
        ...columns.map(([key, name]) => element("div", {}, element("dt", {}, name), element("dd", { "data-audit": key }, String(counts[key]))))),
      element("p", { class: "reason" }, reason[this.language]),
      element("p", { class: "predicted" }, isRight ? `✓ ${words.right_}` : fill(words.wrong, { answer: words.verdicts[predicted] })));
  }
}
