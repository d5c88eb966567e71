-- pgTAP: the partitioned log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(14);

SELECT is((SELECT count(*) FROM log_event('{"producer": 1, "n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"producer": 1, "n": 2}, {"producer": 2, "n": 3}]')), 2::bigint,
          'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');
SELECT isnt(part_of('{"producer": 1}'), part_of('{"producer": 2}'), 'keys have partitions');
SELECT is(part_of('{}'), 0, 'what has no key has one too');

SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL::bigint[], 2)', ARRAY['1', '3'], 'each partition has its share');
SELECT results_eq(
    $$SELECT next.payload ->> 'n' FROM (SELECT * FROM get_event(NULL::bigint[], 2) OFFSET 1) AS e, get_event(e.etags, 2) AS next$$,
    ARRAY['2'], 'a vector reads what follows');
SELECT results_eq($$SELECT payload ->> 'n' FROM get_event('{9,9,9,9,9,9,9,9}', 2)$$, ARRAY[]::text[],
                  'a name that begins with a brace is a vector');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, 2)', ARRAY['1', '3'], 'NULL is not a client');
SELECT throws_ok($$SELECT get_event('1005', 2)$$, '22023', NULL, 'a name that is all digits is an error');
SELECT is_empty('SELECT * FROM events_client', 'and none of these is a client');

SELECT is((SELECT count(*) FROM get_event('a', 5)) + (SELECT count(*) FROM get_event('a', 5)), 3::bigint,
          'a client is given one partition after the other');
SELECT is_empty($$SELECT * FROM get_event('a', 5)$$, 'and each event once');
BEGIN;
SELECT log_event('[{"producer": 1}, {"producer": 2}, {"producer": 1}]') \g /dev/null
SELECT is((SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), 2::bigint, 'a writer locks its partitions');
ROLLBACK;

SELECT * FROM finish();
