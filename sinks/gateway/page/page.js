// The gateway's own page: sign-in, portfolio and tape. Whole objects replace older ones; the newest wins.
"use strict";
const $ = (id) => document.getElementById(id);
const positions = new Map(), orders = new Map(), accounts = new Map();
const LONGEST_WAIT = 30, TAPE_ROWS = 30, SIGNED_OUT = 4401;

async function api(method, path, body) {
  const options = { method, headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body) };
  const response = await fetch(path, options);
  return { status: response.status, data: await response.json() };
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const [text, style] of cells) {
    const td = tr.insertCell();
    td.textContent = text ?? "–"; // never as HTML: symbols come from outside
    if (style) td.className = style;
  }
  return tr;
}

const money = (text) => (text == null ? null : Number(text).toLocaleString(undefined, { maximumFractionDigits: 2, minimumFractionDigits: 2 }));
const tone = (text) => (Number(text) > 0 ? "gain" : Number(text) < 0 ? "loss" : "");
const clock = (time) => new Date(time).toLocaleTimeString();

function draw() {
  const held = [...positions.values()].filter((p) => Number(p.quantity) !== 0).sort((a, b) => a.symbol.localeCompare(b.symbol));
  $("positions").replaceChildren(...held.map((p) => row([[p.symbol], [p.quantity], [money(p.entryPrice)], [money(p.currentPrice)],
    [money(p.marketValue)], [money(p.unrealizedPnl), tone(p.unrealizedPnl)], [money(p.unrealizedPnlPercent), tone(p.unrealizedPnl)]])));
  const newest = [...orders.values()].sort((a, b) => b.submittedAt.localeCompare(a.submittedAt)).slice(0, 50);
  $("orders").replaceChildren(...newest.map((o) => row([[clock(o.submittedAt)], [o.symbol], [o.side], [o.type], [o.qty], [o.filledQty],
    [money(o.filledAvgPrice)], [o.status]])));
  $("account").textContent = [...accounts.values()].map((a) =>
    `${a.account ? a.account + ": " : ""}equity ${money(a.equity)}, cash ${money(a.cash)}, today ${money(a.dayPnl)} (${a.dayPnlPercent}%)`).join("; ");
}
let drawing = false;
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
}

const keep = {
  position: (p) => positions.set(`${p.account} ${p.symbol}`, p),
  order: (o) => orders.set(o.brokerOrderId, o),
  account: (a) => accounts.set(a.account, a),
};
function portfolioMessage({ type, data }) {
  if (type === "batch") {
    (data.positions ?? []).forEach(keep.position);
    (data.orders ?? []).forEach(keep.order);
    if (data.account) keep.account(data.account);
  } else if (type === "position_update") keep.position(data);
  else if (type === "order_update") keep.order(data);
  else if (type === "account_update") keep.account(data);
  else if (type === "stale") return show(data.stale ? "yellow" : "green", data.message);
  drawSoon();
}

function show(colour, text) {
  $("dot").className = colour;
  $("dot").setAttribute("aria-label", text);
  $("status").textContent = text;
}

// A socket that comes back by itself after 1, 2, 4 ... 30 s; signed out, it does not.
function connect(path, handlers) {
  let wait = 1, socket;
  const open = () => {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
    socket.onopen = () => { wait = 1; handlers.open(socket); };
    socket.onmessage = (event) => handlers.message(JSON.parse(event.data));
    socket.onclose = async (event) => {
      if (event.code === SIGNED_OUT || (await session()) === 401) return start();
      handlers.lost(wait);
      setTimeout(open, wait * 1000);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    };
  };
  open();
  return (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
}
const session = () => api("GET", "/api/session").then((r) => r.status, () => 0);

let tape = null, watched = null;
function tapeMessage(message) {
  if (message.type !== "trade") return void ($("tape-status").textContent = message.message ?? "");
  const t = message.data;
  $("tape").prepend(row([[clock(t.timestamp)], [message.symbol], [t.price], [t.size], [t.exchange]]));
  while ($("tape").rows.length > TAPE_ROWS) $("tape").deleteRow(-1);
}
$("watch").addEventListener("submit", (event) => {
  event.preventDefault();
  const symbol = new FormData(event.target).get("symbol").trim().toUpperCase();
  if (watched) tape?.({ action: "unsubscribe", symbol: watched });
  watched = symbol;
  $("tape").replaceChildren();
  tape ??= connect("/ws/tape", {
    open: (socket) => socket.send(JSON.stringify({ action: "subscribe", symbol: watched })),
    message: tapeMessage,
    lost: (wait) => { $("tape-status").textContent = `reconnecting in ${wait} s`; },
  });
  tape({ action: "subscribe", symbol });
});

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = Object.fromEntries(new FormData(event.target));
  const { status, data } = await api("POST", "/api/sign-in", given);
  $("sign-in-error").textContent = status === 200 ? "" : data.error;
  if (status === 200) { event.target.reset(); location.reload(); }
});
$("sign-out").addEventListener("click", async () => { await api("POST", "/api/sign-out"); location.reload(); });

let connected = false;
async function start() {
  const { status, data } = await api("GET", "/api/session");
  const signedIn = status === 200;
  $("sign-in").hidden = signedIn;
  $("desk").hidden = $("sign-out").hidden = !signedIn;
  $("who").textContent = signedIn ? data.user : "";
  if (!signedIn) return show("red", status === 401 ? "signed out" : data.error);
  if (connected) return;
  connected = true;
  connect("/ws/portfolio", {
    open: () => { positions.clear(); orders.clear(); accounts.clear(); show("green", "live"); },
    message: portfolioMessage,
    lost: (wait) => show("yellow", `reconnecting in ${wait} s`),
  });
}
start();
