-- pgTAP: the advisory-lock log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(9);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, 2)', ARRAY['1', '2'], 'NULL reads from the start');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(2, 2)', ARRAY['3'], 'an etag reads what follows');
SELECT is_empty('SELECT * FROM get_event(3, 2)', 'nothing follows the last');

BEGIN;
INSERT INTO events_log (payload) VALUES ('{"n": 4}');
SELECT isnt_empty($$SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 'events_log'::regclass::oid$$,
                  'who inserts without log_event() takes the lock too');
ROLLBACK;
SELECT is_empty($$SELECT FROM pg_locks WHERE locktype = 'advisory'$$, 'and lets go of it at the end');
SELECT trigger_is('events_log', 'one_writer', 'one_writer');

SELECT * FROM finish();
