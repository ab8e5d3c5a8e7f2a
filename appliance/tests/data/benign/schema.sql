create table auth_user (
    id serial primary key, password text not null, last_login timestamptz, is_superuser boolean not null default false,
    username varchar(150) unique not null, email varchar(254) not null, is_active boolean not null default true,
    date_joined timestamptz not null default '2026-01-01'
);
create table auth_group (id serial primary key, name varchar(150) unique not null);
create table auth_user_groups (id serial primary key, user_id int not null references auth_user, group_id int not null references auth_group);
create table django_session (session_key varchar(40) primary key, session_data text not null, expire_date timestamptz not null);
create table django_migrations (id bigserial primary key, app varchar(255) not null, name varchar(255) not null, applied timestamptz not null);
create table products (id int primary key, name text not null, price numeric(10, 2) not null, tags text[] not null default '{}', attributes jsonb not null default '{}');
create table lines (order_id int references orders, product_id int references products, quantity int not null, primary key (order_id, product_id));
create table jobs (id bigserial primary key, queue text not null, payload jsonb not null, run_at timestamptz not null default '2026-01-01', locked_by text);
create table measurements (at timestamptz not null, sensor int not null, value double precision not null);
insert into auth_user (password, username, email) select 'pbkdf2$' || n, 'user' || n, 'user' || n || '@mail' from generate_series(1, 10) n;
insert into auth_group (name) values ('staff'), ('sales');
insert into auth_user_groups (user_id, group_id) select n, 1 + n % 2 from generate_series(1, 10) n;
insert into django_migrations (app, name, applied) values ('auth', '0001_initial', '2026-01-01');
insert into products select n, 'product ' || n, n * 2.5, array['t' || n % 3], jsonb_build_object('color', 'c' || n % 4, 'size', n) from generate_series(1, 20) n;
insert into lines select n, 1 + n % 20, n % 5 + 1 from generate_series(1, 200) n;
insert into jobs (queue, payload) select 'q' || n % 2, '{}' from generate_series(1, 6) n;
insert into measurements select timestamptz '2026-01-01' + n * interval '10 minutes', n % 3, n / 7.0 from generate_series(1, 500) n;
create view order_totals as select o.id, sum(p.price * l.quantity) as total from orders o join lines l on l.order_id = o.id join products p on p.id = l.product_id group by o.id;
