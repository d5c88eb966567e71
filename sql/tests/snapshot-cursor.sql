-- pgTAP: the snapshot-cursor log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(10);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

SELECT results_eq('SELECT payload ->> ''n'' FROM get_event()', ARRAY['1'], 'get_event() yields the first');
SELECT throws_ok($$SELECT get_event('101112', '10')$$, '42883', NULL, 'an etag alone is an error');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, NULL, NULL, NULL, 2)', ARRAY['1', '2'],
                  'NULLs read from the start');
SELECT results_eq(
    $$SELECT next.payload ->> 'n' FROM (SELECT * FROM get_event(NULL, NULL, NULL, NULL, 2) OFFSET 1) AS e,
             get_event(e.since, e.upto, e.xid, e.etag, 2) AS next$$,
    ARRAY['3'], 'a cursor reads what follows');
CREATE TABLE reader AS SELECT * FROM get_event(NULL, NULL, NULL, NULL, 5) OFFSET 2;
BEGIN;
SELECT log_event('{"n": 4}') \g /dev/null
SELECT is_empty('SELECT next.* FROM reader r, get_event(r.since, r.upto, r.xid, r.etag, 5) AS next', 'what is open is not read');
COMMIT;
SELECT results_eq('SELECT next.etag FROM reader r, get_event(r.since, r.upto, r.xid, r.etag, 5) AS next', ARRAY[4::bigint],
                  'the next window has what was committed since');
SELECT results_eq('SELECT DISTINCT next.since::text FROM reader r, get_event(r.since, r.upto, r.xid, r.etag, 5) AS next',
                  'SELECT upto::text FROM reader', 'it begins where the one before ended');

SELECT * FROM finish();
