// Who is in the ward, on all instances, and how the instances are. ward.go has what is asked of the server.

export const $ = id => document.getElementById(id);

// The list is fetched every three seconds while somebody looks at it, because an instance that dies says nothing; and, at
// most once a second, when this page has noticed that a nurse came or went.
const rollEvery = 3000, rollAtMostEvery = 1000;

// set changes a text only where it is another one, so that a screen reader is not made to read it again.
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const clock = time => new Date(time).toLocaleTimeString("en-GB");
const some = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
export const list = names => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

// Roll is the list of the nurses of a ward.
export class Roll {
  constructor(ward) {
    this.ward = ward;
    this.entries = new Map(); // by connection id
    this.asked = -rollAtMostEvery; // when it was fetched last
    this.asking = false;
    this.wanted = false; // again, as soon as that may be
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.soon(); });
  }

  // soon fetches the list as soon as that may be.
  soon() {
    this.wanted = true;
    this.plan();
  }

  plan() {
    clearTimeout(this.timer);
    if (this.asking || document.hidden) return;
    const due = this.asked + (this.wanted ? rollAtMostEvery : rollEvery);
    this.timer = setTimeout(() => this.ask(), Math.max(0, due - performance.now()));
  }

  async ask() {
    this.asking = true;
    this.wanted = false;
    this.asked = performance.now();
    try {
      const answer = await fetch(`who?ward=${encodeURIComponent(this.ward)}`);
      if (!answer.ok) throw new Error(await answer.text());
      this.show(await answer.json());
    } catch (e) {
      $("ward").dataset.state = "stale";
      set($("roll-note"), `The list is as it was: ${e instanceof TypeError ? "no instance answers" : e.message.trim()}.`);
      set($("roll-by"), "");
    } finally {
      this.asking = false;
      this.plan();
    }
  }

  show(roll) {
    const nurses = roll.nurses.toSorted((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.id.localeCompare(b.id));
    const ids = new Set(nurses.map(n => n.id));
    for (const [id, entry] of this.entries) {
      if (!ids.has(id)) this.remove(id, entry);
    }
    // Entries that are there stay, with the focus that is in them; others are put in their place.
    nurses.forEach((n, i) => {
      const entry = this.entries.get(n.id) ?? this.make(n);
      if ($("roll").children[i] !== entry) $("roll").insertBefore(entry, $("roll").children[i] ?? null);
    });
    const on = new Set(nurses.map(n => n.instance)).size;
    let note = nurses.length === 0 ? "Nobody" : `${some(nurses.length, "nurse")} on ${some(on, "instance")}`;
    if (roll.more) note = `The first ${nurses.length} nurses`;
    if (roll.missing.length > 0) {
      const one = roll.missing.length === 1;
      note += `, and maybe more: ${one ? "instance" : "instances"} ${list(roll.missing)} ${one ? "does" : "do"} not answer`;
    } else if (roll.settling) {
      note += `; instance ${roll.instance} has just come and may not know all others yet`;
    }
    const state = roll.missing.length > 0 ? "partial" : roll.settling ? "settling" : "whole";
    $("ward").dataset.state = state;
    set($("roll-note"), note + ".");
    set($("roll-by"), this.alone ? `Instance ${roll.instance} says so, which knows only its own. Another one says something else.`
      : state === "whole" ? `As instance ${roll.instance} says; any other says the same.` : `As instance ${roll.instance} says.`);
  }

  make(nurse) {
    const entry = $("entry-template").content.firstElementChild.cloneNode(true);
    entry.dataset.instance = nurse.instance;
    entry.querySelector(".who").textContent = nurse.name;
    entry.querySelector(".where").textContent = `on ${nurse.instance}, `;
    const since = entry.querySelector("time");
    since.dateTime = nurse.since;
    since.textContent = `since ${clock(nurse.since)}`;
    const button = entry.querySelector("button");
    button.setAttribute("aria-label", `Disconnect ${nurse.name} on instance ${nurse.instance}`);
    button.addEventListener("click", () => this.disconnect(nurse, button));
    this.entries.set(nurse.id, entry);
    return entry;
  }

  remove(id, entry) {
    if (entry.contains(document.activeElement)) {
      const next = entry.nextElementSibling ?? entry.previousElementSibling;
      (next?.querySelector("button") ?? $("ward-title")).focus();
    }
    entry.remove();
    this.entries.delete(id);
  }

  async disconnect(nurse, button) {
    if (button.ariaDisabled) return;
    button.ariaDisabled = "true"; // a button that is really disabled loses the focus
    let said = `${nurse.name} was disconnected.`;
    try {
      const answer = await fetch(`disconnect?id=${encodeURIComponent(nurse.id)}`, { method: "POST" });
      if (!answer.ok) said = `${nurse.name} was not disconnected: ${(await answer.text()).trim()}.`;
    } catch {
      said = `${nurse.name} may not have been disconnected: no instance answers.`;
    }
    button.ariaDisabled = null;
    set($("roll-said"), said);
    this.soon();
  }
}

// Health is a table with a row for each instance of which something is known.
export class Health {
  constructor() {
    this.rows = new Map(); // by the instance's name
    this.names = new Map(); // of instances, by node id
  }

  show({ instance, node, health }) {
    this.names.set(node, instance);
    const b = health.backplane, row = this.row(instance);
    row.dataset.state = b.state;
    delete row.dataset.stale;
    const causes = (b.causes ?? []).map(c => c.node ? `${c.kind} ${this.names.get(c.node) ?? c.node}` : c.kind);
    const cells = {
      backplane: causes.length > 0 ? `${b.state}: ${causes.join(", ")}` : b.state,
      since: b.since ? clock(b.since) : "",
      probe: b.lastProbeSeconds ? `${(b.lastProbeSeconds * 1000).toFixed(2)} ms` : "none yet",
      members: b.members ?? "",
      connections: health.connections,
      wards: health.groups,
      subscriptions: `${b.channelsConfirmed} of ${b.channelsWanted}`,
      waiting: health.outboxes.messages + b.receiveQueueMessages,
      gaps: b.gaps,
      missed: b.knownMissed,
      reconnects: b.reconnects,
      lost: b.membersLost,
    };
    for (const [name, value] of Object.entries(cells)) set(row.querySelector(`[data-of=${name}]`), String(value));
  }

  // stale marks an instance that this page cannot ask any more.
  stale(instance) {
    const row = this.rows.get(instance);
    if (!row) return;
    row.dataset.stale = "";
    set(row.querySelector("[data-of=backplane]"), "not known: no nurse of this page is there");
  }

  row(instance) {
    let row = this.rows.get(instance);
    if (row) return row;
    row = $("health-template").content.firstElementChild.cloneNode(true);
    row.dataset.instance = instance;
    row.querySelector("th").textContent = instance;
    this.rows.set(instance, row);
    const sorted = [...this.rows.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    $("health").querySelector("tbody").append(...sorted.map(name => this.rows.get(name)));
    return row;
  }
}
