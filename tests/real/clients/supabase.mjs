// The npm package `@supabase/realtime-js` as a client: node supabase.mjs URL
//
// Joins `room` for broadcasts, presence and changes of `todos`; says in lines what comes.
import { createRequire } from 'node:module';
import WebSocket from 'ws';

const { RealtimeClient } = createRequire(import.meta.url)('@supabase/realtime-js');
const say = (...words) => console.log(words.join(' '));
const client = new RealtimeClient(process.argv[2], {
  params: { apikey: 'public' },
  transport: WebSocket,
});
const room = client.channel('room', { config: { broadcast: { self: true } } });
room.on('broadcast', { event: 'cursor' }, ({ payload }) => say('broadcast', JSON.stringify(payload)));
room.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'todos' }, (change) =>
  say('change', change.eventType, JSON.stringify(change.new)));
room.on('system', {}, ({ status, message }) => say('system', status, message));
room.subscribe((status, error) => {
  say('status', status, error?.message ?? '');
  if (status === 'SUBSCRIBED') {
    room.send({ type: 'broadcast', event: 'cursor', payload: { own: 1 } });
  }
});
process.on('SIGTERM', async () => {
  await room.unsubscribe();
  await client.disconnect();
  process.exit(0);
});
