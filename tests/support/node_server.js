// Node's http server with one habit of writing per path. Usage: node node_server.js PORT
'use strict';
const http = require('node:http');

const BODY = 'x'.repeat(600);
const later = (milliseconds, what) => setTimeout(what, milliseconds);

const habits = {
  // header and body in one write
  '/one': (request, response) => response.writeHead(200, { 'Content-Length': BODY.length }).end(BODY),
  // header first, body in a second write
  '/split': (request, response) => {
    response.writeHead(200, { 'Content-Length': BODY.length });
    response.flushHeaders();
    later(20, () => response.end(BODY));
  },
  '/chunked': (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/plain' });
    response.write('a'.repeat(100));
    later(10, () => { response.write('b'.repeat(200)); later(10, () => response.end('c'.repeat(300))); });
  },
  '/trailers': (request, response) => {
    response.writeHead(200, { Trailer: 'X-Sum', 'Transfer-Encoding': 'chunked' });
    response.write(BODY);
    response.addTrailers({ 'X-Sum': '600' });
    response.end();
  },
  // reads the whole request body, then says its size
  '/echo': (request, response) => {
    let size = 0;
    request.on('data', (piece) => { size += piece.length; });
    request.on('end', () => response.writeHead(200, { 'Content-Length': String(size).length }).end(String(size)));
  },
  // 103 Early Hints (RFC 8297) before the answer
  '/hints': (request, response) => response.writeEarlyHints(
    { link: '</style.css>; rel=preload' },
    () => later(10, () => response.writeHead(200, { 'Content-Length': BODY.length }).end(BODY)),
  ),
  '/slow': (request, response) => later(300, () => response.writeHead(200, { 'Content-Length': 2 }).end('ok')),
  '/fail': (request, response) => response.writeHead(500, { 'Content-Length': 4 }).end('fail'),
  // promises 600 bytes and breaks the connection after 100
  '/broken': (request, response) => {
    response.writeHead(200, { 'Content-Length': BODY.length });
    response.write('x'.repeat(100));
    later(20, () => request.socket.resetAndDestroy());
  },
};

const server = http.createServer({ keepAliveTimeout: 600000 }, (request, response) => {
  const habit = habits[new URL(request.url, 'http://here').pathname];
  if (habit) habit(request, response);
  else response.writeHead(404, { 'Content-Length': 0 }).end();
});
const tunnel = (request, socket, head, opening) => {
  socket.write(opening);
  if (head.length) socket.write(head);
  socket.pipe(socket);
};
server.on('upgrade', (request, socket, head) => tunnel(
  request, socket, head, 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
));
server.on('connect', (request, socket, head) => tunnel(request, socket, head, 'HTTP/1.1 200 Connection Established\r\n\r\n'));
server.listen(Number(process.argv[2]), '::');
