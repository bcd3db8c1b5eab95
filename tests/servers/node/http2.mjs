// The log as Node's own module for HTTP/2 serves it over TLS: http2.mjs HOST PORT CERTIFICATE KEY.

import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";

const PACE = 20; // milliseconds from one event to the next
const [host, port, certificate, key] = process.argv.slice(2);
const live = new Set();

// HTTP/1.1 is for the tests that ask for /connections.
createSecureServer({ cert: readFileSync(certificate), key: readFileSync(key), allowHTTP1: true }, (request, response) => {
  if (request.url === "/connections") {
    response.end(String(live.size));
    return;
  }
  const replay = Number(new URL(request.url, `https://${host}`).searchParams.get("replay"));
  let number = Math.max(0, Number(request.headers["last-event-id"] || 0) - replay);
  response.writeHead(200, {
    "Content-Type": "text/event-stream",
    "X-Connection": String(request.stream.session.socket.remotePort),
  });
  live.add(response);
  const timer = setInterval(() => {
    number += 1;
    response.write(`id: ${number}\ndata: кінь ${number} 🐎\n\n: beat\n`);
  }, PACE);
  response.on("close", () => {
    clearInterval(timer);
    live.delete(response);
  });
}).listen(Number(port), host);
