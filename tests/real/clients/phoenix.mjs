// The npm package `phoenix` as a client: node phoenix.mjs URL
//
// Joins `room:1`, and `room:2` that is refused; pushes `shout`; says in lines what comes.
import { createRequire } from 'node:module';
import WebSocket from 'ws';

const { Socket } = createRequire(import.meta.url)('phoenix');
const say = (...words) => console.log(words.join(' '));
const socket = new Socket(process.argv[2], {
  transport: WebSocket,
  heartbeatIntervalMs: 200,
  rejoinAfterMs: () => 50,
  reconnectAfterMs: () => 50,
  logger: (kind, message) => kind === 'receive' && message.startsWith('ok phoenix') && say('heartbeat answered'),
});
socket.onError((error) => say('error', error.message ?? error));
socket.connect();

const room = socket.channel('room:1', { since: 17 });
room.on('news', (payload) => say('news', payload instanceof ArrayBuffer ? payload.byteLength : JSON.stringify(payload)));
room.onError(() => say('crashed'));
room.onClose(() => say('left'));
room.join().receive('ok', () => {
  say('joined');
  room.push('shout', { x: 1 }).receive('ok', () => say('pushed'));
});
const refused = socket.channel('room:2');
refused.join().receive('error', ({ reason }) => {
  say('refused', reason);
  refused.leave();
});
process.on('SIGTERM', () => room.leave().receive('ok', () => socket.disconnect(() => process.exit(0))));
