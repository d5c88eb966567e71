-- pgTAP: the skip-locked log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(7);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

BEGIN;
SELECT is((SELECT count(*) FROM get_event(2)), 2::bigint, 'a reader takes what it asks for');
ROLLBACK;
SELECT is((SELECT count(*) FROM get_event(2)), 2::bigint, 'a rollback puts it back');
SELECT is((SELECT count(*) FROM get_event(2)), 1::bigint, 'what was taken is not there again');
SELECT is_empty('SELECT * FROM events_log', 'and leaves nothing behind');

SELECT * FROM finish();
