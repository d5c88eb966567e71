// Reads logs as a program does that leaves types to its driver: node-postgres sends each parameter as an untyped text.
//
// Each line of stdin is a request in JSON, each line of stdout its answer: the rows of all pages, and the error that ended
// them, if one did. The first parameters are the cursor: the last row's columns replace them from page to page.

const { createInterface } = require("node:readline");
const { Client } = require("pg");

const MOST_PAGES = 100;

// As programs do that add up etags: the driver makes texts of 64-bit numbers, because some are too large for a number.
const plain = (value) => (/^[0-9]+$/.test(value) ? Number(value) : value);

async function readAll({ connection, sql, parameters, cursor }) {
  const client = new Client(connection);
  const rows = [];
  await client.connect();
  try {
    for (let page = 0; page < MOST_PAGES; page++) {
      const given = (await client.query(sql, parameters)).rows;
      if (given.length === 0) return { rows, error: null };
      rows.push(...given);
      const last = given[given.length - 1];
      parameters = [...cursor.map((column) => plain(last[column])), ...parameters.slice(cursor.length)];
    }
    return { rows, error: `does not come to an end in ${MOST_PAGES} pages` };
  } catch (error) {
    return { rows, error: error.message };
  } finally {
    await client.end();
  }
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await readAll(JSON.parse(line))));
  }
}

main();
