-- pgTAP: the sequencer log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(9);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

SELECT results_eq('SELECT count(*) FROM events_log WHERE etag IS NULL', ARRAY[3::bigint], 'writers number nothing');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, 2)', ARRAY['1', '2'], 'NULL reads from the start');
SELECT results_eq('SELECT count(*) FROM events_log WHERE etag IS NULL', ARRAY[1::bigint], 'a page at a time is numbered');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(2, 2)', ARRAY['3'], 'an etag reads what follows');
BEGIN;
SELECT log_event('{"n": 4}') \g /dev/null
ROLLBACK;
SELECT log_event('{"n": 5}') \g /dev/null
SELECT results_eq('SELECT etag FROM get_event(3, 2)', ARRAY[4::bigint], 'a rollback leaves no gap');
SELECT is_empty('SELECT * FROM get_event(4, 2)', 'nothing follows the last');

SELECT * FROM finish();
