-- Types that are announced (enum, composite, domain, range, arrays of them) and the text of built-in ones.
create type mood as enum ('sad', 'ok', 'sehr glücklich');
create type pair as (a int, b text);
create domain positive as int check (value > 0);
create domain moods as mood[];
create type span as range (subtype = float8);
create table announced (id int primary key, m mood, ms mood[], p pair, ps pair[], d positive, ds moods, s span);
insert into announced values
  (1, 'ok', '{sad,NULL,"sehr glücklich"}', row(1, 'x,"y"'), array[row(2, null)::pair], 7, '{ok}', '[1.5,2.5)');
insert into announced (id) values (2);
create table built_in (id int primary key, b bool, by bytea, c char(5), n numeric, f float8, r real, d date, t time(3),
  tz timetz, ts timestamp, tsz timestamptz, i interval, u uuid, j json, jb jsonb, x xml, ip inet, bits varbit, pt point,
  tv tsvector, ia int[], ta text[], ir int4range, mr int4multirange, o oid, nm name);
insert into built_in values (1, true, '\x00ff', 'ab', 12345678901234567890.123456789, 'Infinity', -0.0, '0044-03-15 BC',
  '24:00', '23:59:59.999999+14', '-infinity', '2024-02-29 23:59:60+05:30', '1 mon -2 days 03:04:05.6',
  'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{"a" : 1}', '{"b": [1, null]}', '<a/>', '::1/64', b'10110', '(1,-2)',
  'a:1 b:2', '{{1,2},{3,NULL}}', E'{"","a\\\\b","NULL"}', '[1,5)', '{[1,2),[5,6)}', 42, 'n');
insert into built_in (id) values (2);
update built_in set f = 'NaN', d = 'infinity' where id = 1;
create table bool_key (k bool, e mood, primary key (k, e));
insert into bool_key values (false, 'sad');
update bool_key set e = 'ok';
delete from bool_key;
