-- pgTAP: the table-lock log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(8);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, 2)', ARRAY['1', '2'], 'NULL reads from the start');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(2, 2)', ARRAY['3'], 'an etag reads what follows');
SELECT is_empty('SELECT * FROM get_event(3, 2)', 'nothing follows the last');

BEGIN;
SELECT log_event('{"n": 4}') \g /dev/null
SELECT isnt_empty($$SELECT FROM pg_locks WHERE relation = 'events_log'::regclass AND mode = 'ShareRowExclusiveLock'$$,
                  'a writer locks the table until its end');
ROLLBACK;
SELECT results_eq($$SELECT etag FROM log_event('{"n": 5}')$$, ARRAY[5::bigint], 'a rollback leaves a gap');

SELECT * FROM finish();
