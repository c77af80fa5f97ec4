// The page of the ward board: nine nurses of ward 4B and three of ward 2A, each with a WebSocket of its own through the
// balancer. protocol.go describes the messages.
import { $, Health, list, Roll } from "./ward.js";

const ward = { name: "4B", nurses: 9 };
const quiet = { name: "2A", nurses: 3 };
const alerts = ["Bed 12: cardiac alarm", "Bed 7: drug order changed", "Bed 3: patient has fallen", "Bed 9: infusion empty"];
const flow = 1000; // milliseconds; page.css has the same
const still = matchMedia("(prefers-reduced-motion: reduce)");

const words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const word = n => words[n] ?? String(n);

const healthEvery = 2000; // milliseconds
const thrownOut = 1008; // the WebSocket close code: do not connect again

const nurses = [];
const roll = new Roll(ward.name);
const health = new Health();
const columns = new Map(); // by the instance's name
let place = null; // the newest welcome
let raised = 0; // alerts raised by this page
let round = null; // the alert that is shown
let rounds = 0;

// ---- nurses and their sockets

class Nurse {
  constructor(number, ward) {
    this.number = number;
    this.ward = ward;
    this.instance = null; // while it has joined its ward there
    this.element = $("nurse-template").content.firstElementChild.cloneNode(true);
    this.seen = 0;
    this.tries = 0;
    this.out = false; // thrown out: she does not come back by herself
    this.token = undefined; // the newest, with which she comes back on any instance
    this.unsure = false; // alerts may be missing, and she is not yet back
    this.again = this.element.querySelector(".again");
    this.again.addEventListener("click", () => this.connect());
    this.show("waiting", "connecting …");
  }

  // connect opens a socket; the promise is fulfilled when the nurse has joined its ward for the first time.
  connect() {
    this.out = false;
    this.again.hidden = true;
    return new Promise(joined => {
      const url = new URL("ws", location);
      url.protocol = url.protocol.replace("http", "ws");
      url.searchParams.set("nurse", `Nurse ${this.number}`);
      this.socket = new WebSocket(url);
      this.socket.onopen = () => this.send({ type: "hello", resume: this.token });
      this.socket.onmessage = m => this.hear(JSON.parse(m.data), joined);
      this.socket.onclose = e => {
        this.unsure ||= this.instance !== null;
        this.instance = null;
        this.out = e.code === thrownOut;
        this.show(this.out ? "out" : "offline", this.out ? `disconnected: ${e.reason}` : "connecting again …");
        enable();
        judge();
        roll.soon();
        if (this.out) {
          this.again.hidden = false;
          this.token = undefined;
          joined(); // the others need not wait for her
          return;
        }
        // Connect again, to whatever instance has its turn. Not at once, and not all at the same moment.
        const wait = Math.min(5000, 250 * 2 ** this.tries++) * (0.5 + Math.random());
        setTimeout(() => this.connect().then(joined), wait);
      };
    });
  }

  // send does nothing where the socket has just begun to close: onclose comes, and tells.
  send(request) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(request));
  }

  hear(event, joined) {
    switch (event.type) {
      case "welcome":
        place = event;
        this.at = event;
        // Whose token was accepted is in her ward already. All others join: an instance knows only its own connections.
        if (event.wards?.includes(this.ward.name)) this.enter("back in her ward", joined);
        else this.send({ type: "join", ward: this.ward.name });
        break;
      case "joined":
        this.enter("joined again", joined);
        break;
      case "resume":
        this.token = event.token;
        this.element.dataset.token = this.instance ? "of her ward" : "";
        break;
      case "alert":
        arrived(this, event);
        break;
      case "sent":
        begin(event);
        break;
      case "fence":
        fenced(this, event);
        break;
      case "missed":
        if (this.instance) this.show("unsure", "may have missed alerts, fetches anew");
        else this.unsure = true; // it comes before the welcome of those who are back
        break;
      case "status":
        place.state = event.state;
        showBackplane();
        this.send({ type: "health" });
        break;
      case "health":
        health.show(event);
        break;
      case "error":
        for (const n of nurses) if (n.state === "waiting") n.show("waiting", "no alert");
        tell("bad", "The alert could not be sent", event.text);
        break;
    }
  }

  // enter is called when she is in her ward. Who was there before may have missed something: a real client fetches it here.
  enter(how, joined) {
    this.tries = 0;
    this.instance = this.at.instance;
    this.entered = rounds;
    this.element.dataset.resumed = Boolean(this.at.resumed);
    column(this.instance).add(this);
    if (this.unsure) this.show("unsure", `${how}, may have missed alerts`);
    else this.show("waiting", "no alert yet");
    this.unsure = false;
    ready();
    roll.soon();
    joined();
  }

  show(state, what) {
    this.state = state;
    this.element.dataset.state = state;
    this.element.dataset.instance = this.instance ?? "";
    const [who, text, seen] = ["who", "what", "seen"].map(c => this.element.querySelector("." + c));
    who.textContent = `Nurse ${this.number} `;
    if (this.instance) {
      const where = document.createElement("small");
      where.textContent = `on ${this.instance}`;
      who.append(where);
    }
    text.textContent = what;
    seen.textContent = this.seen === 1 ? "1 alert" : this.seen > 1 ? `${this.seen} alerts` : "";
  }
}

// ---- columns

class Column {
  constructor(name) {
    this.name = name;
    this.element = $("column-template").content.firstElementChild.cloneNode(true);
    this.element.dataset.instance = name;
    this.element.querySelector("h2").textContent = `Instance ${name}`;
    this.button = this.element.querySelector("button");
    this.button.querySelector(".wide").textContent = `from instance ${name}`;
    this.button.setAttribute("aria-label", `Send alert from instance ${name}`);
    this.button.addEventListener("click", () => this.raise());
    [this.nurses, this.quiet] = this.element.querySelectorAll("ul");
  }

  add(nurse) { (nurse.ward === ward ? this.nurses : this.quiet).append(nurse.element); }

  // socket is any nurse's on this instance, those of the ward first.
  socket() { return nurses.find(n => n.instance === this.name); }

  raise() {
    const text = alerts[raised++ % alerts.length];
    round = null;
    for (const n of nurses) if (n.instance) n.show("waiting", "…");
    tell("sending", `“${text}”, raised on instance ${this.name} …`, "");
    this.socket()?.send({ type: "alert", ward: ward.name, text });
  }
}

function column(name) {
  let c = columns.get(name);
  if (c) return c;
  c = new Column(name);
  columns.set(name, c);
  const sorted = [...columns.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  sorted.forEach((c, i) => {
    c.element.classList.toggle("first", i === 0);
    c.element.style.setProperty("--at", i + 1);
    $("board").append(c.element);
  });
  $("board").style.setProperty("--columns", columns.size);
  return c;
}

// ---- an alert, from the click to the verdict

// begin makes an alert the one that is shown: when the backplane has taken it, or when the first nurse has it, whichever
// is noticed first. Then it has been sent, and what every instance sends from now on comes after it: the fences.
function begin(alert) {
  if (round?.id === alert.id) return;
  round = { ...alert, copies: new Map(), fences: new Map(), reached: new Set() };
  $("result").dataset.round = ++rounds;
  for (const n of nurses) if (n.instance) n.show("waiting", "…");
  tell("sending", `“${alert.text}”, raised on instance ${alert.instance} …`, "");
  for (const c of columns.values()) {
    c.element.classList.toggle("origin", c.name === alert.instance);
    for (const w of [ward, quiet]) c.socket()?.send({ type: "fence", ward: w.name, id: alert.id });
  }
}

function arrived(nurse, alert) {
  begin(alert);
  if (alert.id !== round.id) return;
  const copies = (round.copies.get(nurse) ?? 0) + 1;
  round.copies.set(nurse, copies);
  nurse.seen++;
  if (nurse.ward !== ward) return nurse.show("wrong", "got an alert of another ward");
  if (copies > 1) return nurse.show("wrong", `got the alert ${copies} times`);
  nurse.show("got", alert.text);
  if (nurse.instance && !round.reached.has(nurse.instance)) {
    round.reached.add(nurse.instance);
    fly(columns.get(alert.instance), columns.get(nurse.instance));
  }
}

function fenced(nurse, fence) {
  place.members = fence.members;
  if (fence.id !== round?.id) return;
  const heard = round.fences.get(nurse) ?? new Map();
  heard.set(fence.node, fence.members);
  round.fences.set(nurse, heard);
  judge();
}

// complete reports whether a nurse has all of this round that it will ever get.
function complete(nurse) {
  if (!nurse.instance || nurse.entered === rounds) return true; // not there, or come in the middle of it
  const heard = round.fences.get(nurse);
  const members = heard?.get(nurse.at.node);
  return members && (heard.has(round.node) || !members.includes(round.node));
}

// judge says who was reached once that is certain.
function judge() {
  if (!round || round.judged || !nurses.every(complete)) return;
  round.judged = true;
  const members = nurses.filter(n => n.ward === ward && !n.out);
  for (const n of members) if (n.instance && !round.copies.has(n)) n.show("lost", "never heard of it");
  for (const n of nurses) if (n.ward === quiet && n.state === "waiting") n.show("waiting", "not disturbed");
  const got = members.filter(n => round.copies.get(n) === 1).length;
  const right = got === members.length && !nurses.some(n => n.state === "wrong");
  const reach = [...columns.keys()].filter(name => !round.reached.has(name));
  tell(right ? "good" : "bad", `${got} of ${members.length} nurses were reached`, explain(right, reach));
  dots(members);
}

function explain(right, deaf) {
  const from = `instance ${round.instance}`;
  if (columns.size === 1) {
    return place.members?.length > 1
      ? `This page’s nurses are all on one instance. ${word(place.members.length)} share the backplane: open the pages of the others too.`
      : "There is only one instance. The trouble begins with the second.";
  }
  if (right) return `${cap(from)} published the alert once; the backplane carried it to every instance that has nurses of the ward.`;
  if (place.backplane === "none") {
    return `${cap(from)} knows only its own connections. ${deaf.length === 1 ? "Instance" : "Instances"} ${list(deaf)} never heard of the alert, and no error says so.`;
  }
  return `Not reached: the nurses on ${list(deaf)}.`;
}

const cap = s => s[0].toUpperCase() + s.slice(1);

// ---- what is shown beside the nurses

function tell(state, headline, detail) {
  const r = $("result");
  r.dataset.state = state;
  r.dataset.sending = round ? `“${round.text}”, raised on instance ${round.instance} …` : "";
  $("headline").textContent = headline;
  $("detail").textContent = detail;
  $("dots").replaceChildren();
  // Start the animations anew where the state is the same as before.
  for (const a of r.getAnimations({ subtree: true })) { a.cancel(); a.play(); }
}

function dots(members) {
  $("dots").replaceChildren(...members.map(n => {
    const d = document.createElement("span");
    d.dataset.state = n.state;
    d.append(Object.assign(document.createElement("span"), { className: "dot" }));
    return d;
  }));
}

// ready is called with every nurse that joins.
function ready() {
  showBackplane();
  const waiting = nurses.filter(n => !n.instance && !n.out).length;
  enable();
  if (waiting > 0 || round) return;
  $("count").textContent = `${word(columns.size)} server${columns.size === 1 ? "" : "s"}`;
  if (columns.size === 1) {
    $("intro").textContent = "All nurses of this page are connected to this one server. Open the pages of others that share its backplane: " +
      "an alert that is raised on one reaches the nurses of all.";
  }
  tell("idle", "Send an alert, and watch who hears it", `${cap(word(ward.nurses))} nurses of ward ${ward.name} should.`);
}

function enable() {
  for (const c of columns.values()) c.button.disabled = !c.socket();
}

function showBackplane() {
  const none = place.backplane === "none";
  roll.alone = none && columns.size > 1;
  const bar = $("bar");
  bar.classList.toggle("none", none);
  bar.dataset.state = place.state;
  $("bar-name").textContent = none ? "No backplane" : "Backplane";
  $("bar-detail").textContent = none ? "· the instances do not know of one another"
    : `· ${place.backplane === "inmem:" ? "in memory" : place.backplane}${place.state === "up" ? "" : " · " + place.state}`;
  $("lesson").textContent = none
    ? "A hub server keeps its connections in memory, so what is sent on one instance reaches the clients of that instance and nobody else."
    : "The backplane carries every message to every instance that has somebody to deliver it to, so it does not matter who is connected where.";
  $("command").textContent = `go run ./examples/wardboard -backplane ${place.backplane}`;
  $("switch").hidden = !place.other;
  if (!place.other) return;
  const [here, there] = none ? ["without", "with"] : ["with", "without"];
  $(here).href = location.pathname;
  $(here).setAttribute("aria-current", "page");
  $(there).href = place.other;
}

// fly lets a dot travel from an instance through the bar to the nurses of another, or of the same.
function fly(from, to) {
  if (still.matches) return;
  const board = $("board").getBoundingClientRect();
  const at = element => {
    const r = element.getBoundingClientRect();
    return { x: r.left + r.width / 2 - board.left + $("board").scrollLeft, y: r.top + r.height / 2 - board.top, top: r.top - board.top };
  };
  const line = at($("bar"));
  if (place.backplane !== "none") line.y += 13; // page.css draws a line there
  const end = { x: at(to.element).x, y: at(to.nurses).top + 16 };
  const start = from ? at(from.button) : { x: 0, y: line.y }; // an instance that has none of this page's nurses
  const points = [start, { x: start.x, y: line.y }, { x: end.x, y: line.y }, end];
  const packet = Object.assign(document.createElement("div"), { className: "packet" });
  $("board").append(packet);
  packet.animate(points.map((p, i) => ({
    transform: `translate(${p.x}px, ${p.y}px)`, offset: [0, .3, .7, 1][i], easing: "ease-in-out",
  })), { duration: flow, fill: "both" }).finished.finally(() => packet.remove());
  if (place.backplane !== "none") {
    $("bar").dataset.flow = "";
    setTimeout(() => delete $("bar").dataset.flow, flow);
  }
}

// Each instance is asked on a nurse's socket how it is, because behind a balancer there is no other way to a certain one.
function askHealth() {
  if (document.hidden) return;
  for (const c of columns.values()) {
    const nurse = c.socket();
    if (nurse) nurse.send({ type: "health" });
    else health.stale(c.name);
  }
}

// ---- start

for (let i = 1; i <= ward.nurses + quiet.nurses; i++) nurses.push(new Nurse(i, i <= ward.nurses ? ward : quiet));
(async () => {
  for (const n of nurses) await n.connect(); // one after the other: the balancer deals them in this order
  askHealth();
})();
setInterval(askHealth, healthEvery);
