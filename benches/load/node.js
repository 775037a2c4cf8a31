// node's `ws` with its ordinary broadcast loop: as many messages as it is told to on its input.
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
server.on('listening', () => console.log(server.address().port));
const fill = 'x'.repeat(139);
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  for (let left = Number(line); left > 0; left -= 1) {
    const stamp = process.hrtime.bigint().toString().padStart(20, '0');
    const message = `{"t":"${stamp}","x":"${fill}"}`;
    for (const client of server.clients) client.send(message);
  }
});
