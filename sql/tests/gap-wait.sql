-- pgTAP: the gap-wait log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(9);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, 2)', ARRAY['1', '2'], 'NULL reads from the start');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(2, 2)', ARRAY['3'], 'an etag reads what follows');
SELECT is_empty('SELECT * FROM get_event(3, 2)', 'nothing follows the last');

BEGIN;
SELECT log_event('[{"n": 4}, {"n": 5}]') \g /dev/null
ROLLBACK;
SELECT log_event('{"n": 6}') \g /dev/null
SELECT results_eq('SELECT etag FROM get_event(1, 5)', ARRAY[2, 3]::bigint[], 'a page ends at a gap');
SELECT results_eq('SELECT etag FROM get_event(3, 5)', ARRAY[6::bigint], 'a gap that nobody can fill is dead');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT throws_like('SELECT * FROM get_event()', '%in READ COMMITTED', 'an old snapshot is refused');
ROLLBACK;

SELECT * FROM finish();
