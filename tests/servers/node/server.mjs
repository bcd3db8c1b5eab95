// The log as better-sse serves it on Node: JSON as data, a retry at the beginning, empty comments to keep alive.

import { createServer } from "node:http";
import { createSession } from "better-sse";

const PACE = 20; // milliseconds from one event to the next
const [host, port] = process.argv.slice(2);
const live = new Set();

createServer(async (request, response) => {
  const url = new URL(request.url, `http://${host}`);
  if (url.pathname === "/connections") {
    response.end(String(live.size));
    return;
  }
  const session = await createSession(request, response, { keepAlive: PACE, retry: 150 });
  live.add(session);
  session.on("disconnected", () => live.delete(session));
  let number = Number(session.lastId || 0);
  const last = number + Number(url.searchParams.get("count") || Infinity);
  const timer = setInterval(() => {
    if (!session.isConnected) {
      clearInterval(timer);
      return;
    }
    number += 1;
    session.push({ number, text: `кінь 🐎\n\n: \u2028` }, number % 3 ? "message" : "třetí", String(number));
    if (number === last) {
      clearInterval(timer);
      response.end();
    }
  }, PACE);
}).listen(Number(port), host);
