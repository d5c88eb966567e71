-- pgTAP: the lock-drain log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(20);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, 2)', ARRAY['1', '2'], 'NULL reads from the start');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(2, 2)', ARRAY['3'], 'an etag reads what follows');
SELECT is_empty('SELECT * FROM get_event(3, 2)', 'nothing follows the last');

SELECT results_eq($$SELECT etag FROM get_event('2', 2)$$, ARRAY[3]::bigint[], 'a name that is all digits is an etag');
SELECT results_eq($$SELECT etag FROM get_event('2', 2)$$, ARRAY[3]::bigint[], 'and remembers nothing');
PREPARE untyped AS SELECT etag FROM get_event($1, $2);
SELECT results_eq($$EXECUTE untyped ('2', 2)$$, ARRAY[3]::bigint[], 'so are parameters without a type');
SELECT throws_ok($$SELECT get_event('9223372036854775808')$$, '22003', NULL, 'a number that is too large is an error');
SELECT throws_ok($$SELECT get_event('1e+21')$$, '22P02', NULL, 'another number is an error');
SELECT throws_ok($$SELECT get_event('')$$, '22P02', NULL, 'an empty name is an error');
SELECT is_empty('SELECT * FROM events_client', 'and none of these is a client');

SELECT results_eq($$SELECT etag FROM get_event('a')$$, ARRAY[1::bigint], 'an unknown client starts at the beginning');
SELECT results_eq($$SELECT etag FROM get_event('a', 5)$$, ARRAY[2, 3]::bigint[], 'it goes on where it was');
SELECT is_empty($$SELECT etag FROM get_event('a')$$, 'a client that has had all gets nothing');

SELECT is(open_writers(), '{}', 'nobody is writing');
BEGIN;
SELECT log_event('{"n": 4}') \g /dev/null
SELECT is(open_writers(), '{}', 'one does not wait for oneself');
SELECT results_eq('SELECT etag FROM get_event(3, 2)', ARRAY[4::bigint], 'one reads one''s own');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT throws_like('SELECT * FROM get_event()', '%in READ COMMITTED', 'an old snapshot is refused');
ROLLBACK;

SELECT * FROM finish();
