// What the recording says at a moment. Nothing is drawn here, and nothing is made up:
// each state follows from the lines of the journals up to that moment.
"use strict";

const EVENTS = { ATTEMPTED: "attempted", ACCEPTED: "accepted", STARTED: "started", EATEN: "eaten" };

/** The id of an item of a run, such as "alex/3". */
const tokenId = (producer, number) => `${producer}/${number}`;

/** All items of the run's work, in the order in which their producers make them. */
function tokensOf(run) {
  const numbers = Array.from({ length: run.work.items }, (_, number) => number);
  return run.work.producers.flatMap((producer) =>
    numbers.map((number) => ({ id: tokenId(producer, number), producer, number })));
}

/**
 * Where each item is at `seconds`, and the sums of the journals up to then, in items.
 *
 * States: "unmade", "attempted", "accepted", "hand", "eaten", "twice"; and when the run has ended also
 * "lost" (accepted and not eaten) and "stuck" (the same in a run that got stuck, unless a killed consumer had it).
 */
function stateAt(run, seconds) {
  const known = new Map(tokensOf(run).map((token) =>
    [token.id, { ...token, attempted: false, accepted: false, startedBy: null, eaten: 0, eatenBy: null }]));
  for (const [at, event, producer, number, writer] of run.lines) {
    if (at > seconds) break;
    const token = known.get(tokenId(producer, number));
    if (event === EVENTS.ATTEMPTED) token.attempted = true;
    else if (event === EVENTS.ACCEPTED) token.attempted = token.accepted = true;
    else if (event === EVENTS.STARTED) token.startedBy = writer;
    else if (event === EVENTS.EATEN) { token.eaten += 1; token.eatenBy = writer; }
  }
  const ended = seconds >= run.seconds;
  const killed = run.kill && run.kill.at <= seconds ? run.kill : null;
  const sums = { attempted: 0, accepted: 0, eaten: 0, lost: 0, duplicated: 0, recovered: 0, unexpected: 0 };
  const states = {};
  for (const token of known.values()) {
    token.state = stateOf(token, run, ended, killed);
    states[token.state] = (states[token.state] || 0) + 1;
    sums.attempted += token.attempted;
    sums.accepted += token.accepted;
    sums.eaten += token.eaten > 0;
    sums.lost += token.accepted && !token.eaten;
    sums.duplicated += Math.max(0, token.eaten - 1);
    sums.recovered += token.eaten > 0 && token.attempted && !token.accepted;
    sums.unexpected += token.eaten > 0 && !token.attempted;
  }
  return { tokens: [...known.values()], states, sums, ended, killed };
}

function stateOf(token, run, ended, killed) {
  if (token.eaten > 1) return "twice";
  if (token.eaten) return "eaten";
  if (ended && token.accepted) {
    const inKilledHand = killed && killed.name === token.startedBy;
    return run.verdict === "wedged" && !inKilledHand ? "stuck" : "lost";
  }
  if (token.startedBy) return "hand";
  if (token.accepted) return "accepted";
  return token.attempted ? "attempted" : "unmade";
}

/** The moments at which something changes in a run, in seconds from its first line. */
function momentsOf(run) {
  const kill = run.kill ? [run.kill.at, ...(run.kill.back_at === null ? [] : [run.kill.back_at])] : [];
  return [...new Set([...run.lines.map(([at]) => at), ...kill, run.seconds])].sort((a, b) => a - b);
}

/**
 * One clock for two runs. If a process is killed in both, the two kills are at the same moment.
 *
 * Returns the shift of each run, and the moments: `at` is the time of the runs in seconds, `shown` the time on
 * the page in seconds. Close moments are spread, long silences are shortened, and after a kill
 * there is time to look; the order is the runs' own.
 */
function clockOf(runs, shortest = 0.18, longest = 1.1, afterKill = 2.2) {
  const kills = runs.map((run) => (run.kill ? run.kill.at : null));
  const aligned = kills.every((at) => at !== null);
  const shifts = runs.map((_, side) => (aligned ? Math.max(...kills) - kills[side] : 0));
  const times = [...new Set(runs.flatMap((run, side) => momentsOf(run).map((at) => round(at + shifts[side]))))];
  times.sort((a, b) => a - b);
  const killed = new Set(kills.map((at, side) => (at === null ? null : round(at + shifts[side]))));
  const moments = [{ at: times[0] - 0.001, shown: 0 }];
  let shown = 0.3;
  times.forEach((at, place) => {
    const passed = place ? 2 * (at - times[place - 1]) : 0;
    if (place && killed.has(times[place - 1])) shown += afterKill;
    else if (place) shown += Math.min(longest, Math.max(shortest, passed));
    moments.push({ at, shown });
  });
  return { shifts, moments };
}

/** Ten-thousandths of a second, as in the recording, so that sums of times compare as equal. */
function round(seconds) {
  return Math.round(seconds * 10000) / 10000;
}
