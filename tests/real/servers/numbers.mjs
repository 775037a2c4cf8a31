// Counts aloud on each WebSocket, on the npm package `ws`: node numbers.mjs PORT
//
// A path that begins with /quiet gets 0 and nothing after it. What happens is said in lines on
// stdout; SIGTERM closes all in good form, with 1012, and ends the program.
import { WebSocketServer } from 'ws';

const say = (line) => console.log(line);
const server = new WebSocketServer({ host: '0.0.0.0', port: Number(process.argv[2]) });
server.on('listening', () => say('listening'));
server.on('connection', (socket, request) => {
  say(`sockets ${server.clients.size}`);
  let next = 0;
  const count = () => socket.send(String(next++));
  count();
  const beat = request.url.startsWith('/quiet') ? undefined : setInterval(count, 10);
  socket.on('ping', () => say('ping'));
  socket.on('error', (error) => say(`error ${error.message}`));
  socket.on('close', (code) => {
    clearInterval(beat);
    say(`closed ${code}`);
    say(`sockets ${server.clients.size}`);
  });
});
process.on('SIGTERM', () => {
  server.close();
  server.clients.forEach((socket) => socket.close(1012, 'restart'));
});
