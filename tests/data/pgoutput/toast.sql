-- Values stored out of line: sent, unchanged under each identity, changed, and a wide row.
create table doc (id int primary key, body text, note text);
alter table doc alter body set storage external;
insert into doc values (1, repeat('0123456789', 400), 'first');
update doc set note = 'second';
update doc set body = repeat('abcdefghij', 300);
update doc set id = 2;
alter table doc replica identity full;
update doc set note = 'third';
delete from doc;
do $$ begin execute 'create table wide (' || (select string_agg('c' || n || ' int', ', ') from generate_series(1, 300) n)
  || ', primary key (c1))'; end $$;
insert into wide (c1, c7, c300) values (1, 7, 300);
