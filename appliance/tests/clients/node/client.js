// What node-postgres sees of a database: prints the same through the appliance as directly.
// Connects by the PG* environment variables. Prints nothing that differs from run to run.
'use strict';

const { once } = require('node:events');
const { pipeline } = require('node:stream/promises');
const { Readable, Writable } = require('node:stream');
const modules = process.env.SALLYPORT_NODE_MODULES;
const load = (name) => require(require.resolve(name, { paths: [modules] }));
const { Client, Pool } = load('pg');
const Cursor = load('pg-cursor');
const { from: copyFrom, to: copyTo } = load('pg-copy-streams');

// node-postgres does not read PGSSLROOTCERT; `ca` and a host name make it verify both.
const ssl = process.env.PGSSLROOTCERT && { ca: require('node:fs').readFileSync(process.env.PGSSLROOTCERT, 'utf8') };

const title = (text) => console.log(`== ${text}`);

async function failure(what, promise) {
  try {
    await promise;
    console.log(what, 'succeeded');
  } catch (error) {
    console.log(what, error.code, error.message);
  }
}

async function main() {
  console.log(`# node-postgres ${load('pg/package.json').version}`);
  // A listener for notifications of lost connections, which node would otherwise throw.
  const client = new Client({ ssl });
  client.on('error', (error) => console.log('lost', error.code));
  await client.connect();

  title('simple');
  console.log((await client.query("select 1 as a, 'text' as b, null as c, 1.50::numeric as d")).rows);
  console.log((await client.query('select id, name from customers order by id limit 3')).rows);
  console.log((await client.query('select 1; select 2')).map((result) => result.rowCount));
  await failure('division', client.query('select 1/0'));

  title('parameters and prepared');
  for (let id = 1; id <= 5; id += 1) {
    const query = { name: 'by-id', text: 'select name from customers where id = $1', values: [id] };
    console.log((await client.query(query)).rows);
  }
  console.log((await client.query('select $1::bytea as bytes, $2::int[] as list', [Buffer.from([0, 255]), [1, 2]])).rows);
  console.log((await client.query({ text: 'select 7::int8 as n', rowMode: 'array', values: [] })).rows);
  await failure('type', client.query('select $1::int', ['x']));
  console.log((await Promise.all([1, 2, 3].map((n) => client.query('select $1::int as n', [n])))).map((r) => r.rows[0].n));

  title('transactions');
  await client.query('create temp table made (a int, b text)');
  await client.query('begin');
  await client.query("insert into made values (1, 'kept')");
  await client.query('savepoint s');
  await failure('inside', client.query('select 1/0'));
  await failure('aborted', client.query('select 1'));
  await client.query('rollback to s');
  await client.query('commit');
  console.log((await client.query('select * from made')).rows);

  title('copy');
  const rows = Array.from({ length: 1000 }, (_, n) => `${n}\trow ${n}\n`);
  await pipeline(Readable.from(rows), client.query(copyFrom('copy made from stdin')));
  let bytes = 0;
  const sink = new Writable({ write(chunk, _encoding, done) { bytes += chunk.length; done(); } });
  await pipeline(client.query(copyTo('copy made to stdout')), sink);
  console.log(bytes);
  await failure('copy', pipeline(Readable.from(['x\ty\n']), client.query(copyFrom('copy made from stdin'))));
  console.log((await client.query('select count(*) from made')).rows);

  title('cursors');
  const cursor = client.query(new Cursor('select id from orders order by id'));
  let total = 0;
  for (let read = await cursor.read(77); read.length > 0; read = await cursor.read(77)) {
    total += read.reduce((sum, row) => sum + row.id, 0);
  }
  await cursor.close();
  console.log(total);
  const abandoned = client.query(new Cursor('select id from orders order by id'));
  console.log((await abandoned.read(2)).length);
  await abandoned.close();
  console.log((await client.query('select 3 as n')).rows);

  title('notifications');
  await client.query('listen news');
  const arrived = once(client, 'notification');
  await client.query("notify news, 'payload'");
  const [notification] = await arrived;
  console.log(notification.channel, notification.payload);

  title('every field');
  const fields = ['severity', 'code', 'message', 'detail', 'hint', 'position', 'internalPosition', 'internalQuery', 'where', 'schema', 'table', 'column', 'dataType', 'constraint', 'file', 'line', 'routine'];
  const shown = (message) => fields.filter((name) => message[name] !== undefined).map((name) => `${name}=${message[name]}`).join(' ');
  client.on('notice', (notice) => console.log('notice', shown(notice)));
  for (const text of ['select 1/0', 'selekt', 'insert into orders values (1, 1, 1)', 'insert into orders values (70001, 70001, 1)', 'select no_such_column from customers',
    "do $$ begin raise exception 'm' using detail = 'd', hint = 'h', errcode = 'P0042', column = 'c', constraint = 'n', datatype = 't', table = 'b', schema = 's'; end $$",
    "do $$ begin raise warning 'w' using hint = 'h'; raise notice 'n'; execute 'select 1/0'; end $$"]) {
    for (const values of [undefined, []]) {
      try {
        await client.query({ text, values });
      } catch (error) {
        console.log(shown(error));
      }
    }
  }

  title('types');
  const types = "select true, 1::int2, 2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 1.50::numeric, 'x'::text, 'y'::char(3), '\\x00ff'::bytea, date '2026-11-26', timestamptz '2026-11-26 12:00+00',"
    + " interval '1 year 2 days', '{1,null}'::int[], '{\"a\": [1]}'::jsonb, '(1,2)'::point, '[1,5)'::int4range, row(1, 'x'), null::int, '{}'::text[], 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid";
  for (const options of [{}, { values: [] }, { name: 'types', values: [] }]) {
    const result = await client.query({ text: types, rowMode: 'array', ...options });
    console.log(result.command, result.rowCount, result.oid);
    result.fields.forEach((field, n) => console.log(field.name, field.tableID, field.columnID, field.dataTypeID, field.dataTypeSize, field.dataTypeModifier, field.format, result.rows[0][n]));
  }
  console.log((await client.query("select; select 1 where false; insert into made values (1, 'x'); ; create table of_node (a int)")).map((r) => [r.command, r.rowCount, r.fields.length]));
  await failure('cut name', client.query({ name: 'n'.repeat(63), text: 'select 1' }));
  console.log(await client.query('').then((r) => [r.command, r.rowCount]));

  title('changes under prepared statements');
  await client.query('create table changing (a int)');
  const kept = { name: 'kept', text: 'select * from changing' };
  console.log((await client.query(kept)).fields.length);
  await client.query('alter table changing add b text');
  await failure('kept', client.query(kept));
  await client.query('deallocate all');
  await failure('deallocated', client.query(kept));

  title('whose notifications');
  const other = new Client({ ssl, application_name: 'other', statement_timeout: 5000 });
  await other.connect();
  await client.query('listen whose');
  for (const [who, name] of [[client, 'own'], [other, 'other']]) {
    const told = once(client, 'notification');
    await who.query(`notify whose, '${name}'`);
    const [heard] = await told;
    console.log(heard.payload, heard.processId === client.processID);
  }
  console.log((await other.query('show statement_timeout')).rows);
  await other.end();

  title('cancel');
  const sleeping = failure('cancelled', client.query('select pg_sleep(60)'));
  // The request carries no secret but the key, and node-postgres sends it without TLS.
  const canceller = new Client({ ssl: false });
  setTimeout(() => canceller.cancel(client, client._activeQuery || client.activeQuery), 500);
  await sleeping;
  console.log((await client.query('select 4 as n')).rows);
  await client.end();

  title('pool');
  const pool = new Pool({ max: 4, ssl });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => pool.query('select $1::int as n', [n])));
  console.log(answers.map((answer) => answer.rows[0].n).join(' '));
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
