// The npm packages `graphql-ws` and `ws` as a server: node graphql.mjs PORT [TOKEN]
//
// `ticks(from)` counts each 20 ms; `few` ends after two; `add` is a mutation. With a TOKEN, only who has it
// may connect. Says in lines who comes and what ends.
import { GraphQLInt, GraphQLNonNull, GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';

const [port, token] = process.argv.slice(2);
const say = (...words) => console.log(words.join(' '));
let sum = 0;
const from = { from: { type: new GraphQLNonNull(GraphQLInt) } };
async function* count(key, first, last) {
  try {
    for (let n = first; n <= last; n++) {
      yield { [key]: n };
      await new Promise((done) => setTimeout(done, 20));
    }
  } finally {
    say('ended', key);
  }
}
const fields = {
  ticks: { type: GraphQLInt, args: from, subscribe: (_, { from }) => count('ticks', from, Infinity) },
  few: { type: GraphQLInt, subscribe: () => count('few', 1, 2) },
};
const schema = new GraphQLSchema({
  query: new GraphQLObjectType({ name: 'Query', fields: { hello: { type: GraphQLString, resolve: () => 'wörld' } } }),
  mutation: new GraphQLObjectType({
    name: 'Mutation',
    fields: { add: { type: GraphQLInt, args: from, resolve: (_, { from }) => (sum += from) } },
  }),
  subscription: new GraphQLObjectType({ name: 'Subscription', fields }),
});
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port), path: '/graphql' });
useServer(
  {
    schema,
    onConnect: ({ connectionParams }) => {
      say('connect', JSON.stringify(connectionParams ?? null));
      return !token || connectionParams?.Authorization === `Bearer ${token}`;
    },
    onDisconnect: (_, code) => say('disconnect', code),
  },
  server,
);
server.on('listening', () => say('listening'));
