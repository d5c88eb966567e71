-- pgTAP: the bigserial log. Run by pg_prove on a database in which schema.sql was run and pgtap is installed.
BEGIN;
SELECT plan(34);

SELECT has_table('events_log');
SELECT col_is_pk('events_log', 'etag');
SELECT col_type_is('events_log', 'etag', 'bigint');
SELECT col_type_is('events_log', 'ctime', 'timestamp without time zone');
SELECT col_type_is('events_log', 'payload', 'json');
SELECT col_default_is('events_log', 'ctime', 'clock_timestamp()', 'ctime is the moment of the insert');

SELECT is_empty('SELECT * FROM get_event()', 'an empty log yields nothing');

SELECT is((SELECT payload::text FROM log_event('{"event": "payload"}')), '{"event": "payload"}', 'one event comes back');
SELECT results_eq(
    $$SELECT payload::text FROM log_event('[{"n": 1}, {"n": 2}, {"n": 3}]')$$,
    ARRAY['{"n": 1}', '{"n": 2}', '{"n": 3}'],
    'each element of an array is an event');
SELECT results_eq($$SELECT payload::text FROM log_events('["x"]')$$, ARRAY['"x"'], 'log_events is the same');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');
SELECT throws_ok('SELECT log_event(NULL)', '22004', 'log_event: the event must not be NULL', 'NULL is refused');
SELECT is((SELECT count(*) FROM events_log), 5::bigint, 'five events are in the log');
SELECT is((SELECT max(etag) - min(etag) FROM events_log), 4::bigint, 'their etags have no gaps');

SELECT results_eq('SELECT etag FROM get_event()', ARRAY[1::bigint], 'get_event() yields the first');
SELECT results_eq('SELECT etag FROM get_event(2)', ARRAY[3::bigint], 'get_event(etag) yields the next');
SELECT results_eq('SELECT etag FROM get_event(2, 2)', ARRAY[3, 4]::bigint[], 'get_event(etag, limit) yields more');
SELECT results_eq('SELECT etag FROM get_event(NULL, 2)', ARRAY[1, 2]::bigint[], 'NULL reads from the start');
SELECT results_eq('SELECT etag FROM get_event(NULL::bigint)', ARRAY[1::bigint], 'a NULL etag reads from the start');
SELECT is_empty('SELECT * FROM get_event(5)', 'nothing follows the last');
SELECT is_empty('SELECT * FROM get_event(1, 0)', 'none is none');
SELECT throws_ok('SELECT * FROM get_event(1, -1)', '2201W', 'LIMIT must not be negative', 'a negative limit is refused');

SELECT results_eq($$SELECT etag FROM get_event('2', 2)$$, ARRAY[3, 4]::bigint[], 'a name that is all digits is an etag');
SELECT results_eq($$SELECT etag FROM get_event('2', 2)$$, ARRAY[3, 4]::bigint[], 'and remembers nothing');
PREPARE untyped AS SELECT etag FROM get_event($1, $2);
SELECT results_eq($$EXECUTE untyped ('2', 2)$$, ARRAY[3, 4]::bigint[], 'so are parameters without a type');
SELECT throws_ok($$SELECT get_event('9223372036854775808')$$, '22003', NULL, 'a number that is too large is an error');
SELECT throws_ok($$SELECT get_event('1e+21')$$, '22P02', NULL, 'another number is an error');
SELECT throws_ok($$SELECT get_event('')$$, '22P02', NULL, 'an empty name is an error');
SELECT is_empty('SELECT * FROM events_client', 'and none of these is a client');

SELECT results_eq($$SELECT etag FROM get_event('a')$$, ARRAY[1::bigint], 'an unknown client starts at the beginning');
SELECT results_eq($$SELECT etag FROM get_event('a', 2)$$, ARRAY[2, 3]::bigint[], 'it goes on where it was');
SELECT results_eq($$SELECT etag FROM get_event('b')$$, ARRAY[1::bigint], 'another client is not disturbed');

SAVEPOINT before;
SELECT etag FROM get_event('a', 2) \g /dev/null
ROLLBACK TO before;
SELECT results_eq($$SELECT etag FROM get_event('a', 2)$$, ARRAY[4, 5]::bigint[], 'a rollback takes the position back');
SELECT is_empty($$SELECT * FROM get_event('a')$$, 'a client that has had all gets nothing');

SELECT * FROM finish();
ROLLBACK;
