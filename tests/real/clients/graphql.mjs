// The npm package `graphql-ws` as a client: node graphql.mjs URL
//
// Asks a query, subscribes to `ticks` and to `nope` that is refused; says in lines what comes.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const say = (...words) => console.log(words.join(' '));
const client = createClient({
  url: process.argv[2],
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: 'Bearer jwt' },
  keepAlive: 200,
  retryAttempts: 5,
  retryWait: () => new Promise((done) => setTimeout(done, 50)),
  on: {
    connected: () => say('connected'),
    ping: (received) => say(received ? 'pinged' : 'ping'),
    pong: (received) => received && say('pong'),
    closed: (event) => say('closed', event.code),
  },
});
const run = (name, query) =>
  client.subscribe(
    { query },
    {
      next: (value) => say(name, JSON.stringify(value)),
      error: (error) => say(name, 'error', Array.isArray(error) ? error[0].message : error.message ?? error.code),
      complete: () => say(name, 'complete'),
    },
  );
run('query', '{ hello }');
run('nope', 'subscription { nope }');
const leave = run('ticks', 'subscription { ticks }');
process.on('SIGUSR1', leave);
process.on('SIGTERM', async () => {
  await client.dispose();
  process.exit(0);
});
