// What node-postgres sees of held commands: prints notices as they come, and what became of each
// statement. Connects by the PG* environment variables; the statements are its arguments.
'use strict';

const fs = require('fs');
const { Client } = require(`${process.env.SALLYPORT_NODE_MODULES}/pg`);

async function main() {
  const client = new Client({ ssl: { ca: fs.readFileSync(process.env.PGSSLROOTCERT) } });
  await client.connect();
  client.on('notice', (it) => console.log('notice', it.code, it.message));
  for (const statement of process.argv.slice(2)) {
    try {
      const result = await client.query(statement, ['7']);
      console.log('result', result.command, result.rowCount);
    } catch (error) {
      console.log('error', error.code, error.message);
    }
  }
  await client.end();
}

main();
