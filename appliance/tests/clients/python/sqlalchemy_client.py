"""What SQLAlchemy sees of a database, over psycopg and over asyncpg: the same through the appliance as directly.

Connects by the PG* environment variables. Prints nothing that differs from run to run.
"""

import asyncio
import datetime
import decimal
import enum
import os
import ssl
import uuid

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

print(f"# SQLAlchemy {sa.__version__}")


def url(driver):
    return sa.URL.create(f"postgresql+{driver}", os.environ["PGUSER"], os.environ["PGPASSWORD"], os.environ["PGHOST"], int(os.environ["PGPORT"]), os.environ["PGDATABASE"])


def title(text):
    print(f"== {text}")


class Mood(enum.Enum):
    SAD = "sad"
    HAPPY = "happy"


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    mood: orm.Mapped[Mood | None]
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", cascade="all, delete-orphan", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (sa.CheckConstraint("price >= 0", name="price_is_positive"), sa.Index("by_title", "title", postgresql_using="btree"))
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("author.id", ondelete="CASCADE"))
    title: orm.Mapped[str]
    price: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(10, 2), default=0)
    tags: orm.Mapped[list[str]] = orm.mapped_column(pg.ARRAY(sa.Text), default=list)
    facts: orm.Mapped[dict] = orm.mapped_column(pg.JSONB, default=dict)
    key: orm.Mapped[uuid.UUID] = orm.mapped_column(default=uuid.UUID(int=7))
    cover: orm.Mapped[bytes | None]
    printed: orm.Mapped[datetime.datetime | None] = orm.mapped_column(sa.DateTime(timezone=True))
    lent: orm.Mapped[datetime.timedelta | None]
    pages: orm.Mapped[pg.Range[int] | None] = orm.mapped_column(pg.INT4RANGE)
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


def failure(what, run):
    try:
        run()
        print(what, "succeeded")
    except sa.exc.DBAPIError as error:
        diag = error.orig.diag
        print(what, type(error).__name__, diag.sqlstate, diag.message_primary, diag.message_detail, diag.constraint_name, diag.table_name)


def over_psycopg():
    title("engine")
    engine = sa.create_engine(url("psycopg"), pool_size=2, connect_args={"application_name": "alchemy"}, pool_pre_ping=True)
    statements = []
    sa.event.listen(engine, "before_cursor_execute", lambda c, cursor, statement, parameters, context, many: statements.append(statement))
    with engine.connect() as connection:
        print(engine.dialect.server_version_info, engine.dialect.default_schema_name, connection.get_isolation_level())

    title("schema")
    Base.metadata.create_all(engine)
    inspector = sa.inspect(engine)
    for table in inspector.get_table_names():
        for column in inspector.get_columns(table):
            print(table, column["name"], column["type"], column["nullable"], column["default"])
        print(inspector.get_pk_constraint(table), inspector.get_foreign_keys(table), inspector.get_indexes(table), inspector.get_unique_constraints(table), inspector.get_check_constraints(table))
    print(inspector.get_enums(), inspector.get_view_names(), inspector.get_schema_names())
    reflected = sa.MetaData()
    reflected.reflect(engine)
    print(sorted(reflected.tables), len(statements))

    title("objects")
    with orm.Session(engine) as session:
        author = Author(name="Ada", mood=Mood.HAPPY)
        author.books = [
            Book(title=f"Volume {n}", price=decimal.Decimal("1.50") * n, tags=["a", "b,c"], facts={"n": n, "deep": [1, None]}, cover=bytes(range(n)),
                 printed=datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.timezone.utc), lent=datetime.timedelta(days=n, seconds=5), pages=pg.Range(1, 10 * n))
            for n in range(1, 30)
        ]
        session.add(author)
        session.add_all(Author(name=f"author {n}") for n in range(1500))
        session.flush()
        print(author.id, [book.id for book in author.books][:3])
        try:
            with session.begin_nested():
                session.add(Author(name="Ada"))
                session.flush()
        except sa.exc.IntegrityError as error:
            print(error.orig.diag.constraint_name, session.is_active)
        session.commit()
        book = session.scalars(sa.select(Book).options(orm.joinedload(Book.author)).order_by(Book.id).limit(1)).one()
        print(book.title, book.price, book.tags, book.facts, book.key, book.cover, book.printed, book.lent, book.pages, book.author.mood)
        print([a.name for a in session.scalars(sa.select(Author).options(orm.selectinload(Author.books)).order_by(Author.id).limit(3))])
        print(session.scalar(sa.select(sa.func.count()).select_from(Author)))
        print(session.execute(sa.update(Book).where(Book.price > 30).values(price=Book.price + 1).returning(Book.id, Book.price).execution_options(synchronize_session=False)).all())
        print(session.scalar(sa.select(Book.facts["n"].as_integer()).where(Book.facts.contains({"n": 3}))), session.scalar(sa.select(sa.func.array_length(Book.tags, 1)).limit(1)))
        session.rollback()
        stolen = session.get(Book, 1, with_for_update=True)
        session.delete(stolen)
        session.commit()
        print(session.execute(sa.delete(Author).where(Author.name.like("author 1%"))).rowcount)
        session.commit()

    title("core")
    with engine.connect() as connection:
        upsert = pg.insert(Author).values(name="Ada", mood=Mood.SAD).on_conflict_do_update(index_elements=["name"], set_={"mood": Mood.SAD}).returning(Author.name, Author.mood)
        print(connection.execute(upsert).all())
        rows = connection.execute(sa.select(Author.id).order_by(Author.id), execution_options={"stream_results": True, "max_row_buffer": 20})
        print(sum(row.id for row in rows))
        result = connection.execute(sa.text("select 1 as a, 'x' as b, :value as c"), {"value": None})
        print(result.keys(), result.all(), [column.type_code for column in result.cursor.description] if result.cursor else None)
        connection.commit()
        print(connection.execute(sa.insert(Book), [{"author_id": 1, "title": f"many {n}"} for n in range(1200)]).rowcount)
        connection.rollback()
        for level in ("SERIALIZABLE", "AUTOCOMMIT", "REPEATABLE READ"):
            with engine.connect().execution_options(isolation_level=level) as other:
                print(level, other.get_isolation_level(), other.scalar(sa.text("show transaction_isolation")))
        with engine.connect().execution_options(postgresql_readonly=True, postgresql_deferrable=True) as other:
            failure("read only", lambda: other.execute(sa.insert(Author).values(name="no")))
    failure("unique", lambda: engine.connect().execute(sa.insert(Author).values(name="Ada")))
    failure("check", lambda: engine.connect().execute(sa.insert(Book).values(author_id=1, title="x", price=-1)))
    failure("foreign key", lambda: engine.connect().execute(sa.insert(Book).values(author_id=-1, title="x")))
    failure("syntax", lambda: engine.connect().execute(sa.text("selekt")))
    failure("division", lambda: engine.connect().execute(sa.text("select 1/0")))
    with engine.connect() as connection:
        transaction = connection.begin_twophase("alchemy")
        connection.execute(sa.insert(Author).values(name="two-phase"))
        transaction.prepare()
        transaction.commit()
        connection.rollback()
        print(connection.scalar(sa.select(sa.func.count()).where(Author.name == "two-phase")))

    title("types")
    with engine.connect() as connection:
        for kind, value in [(sa.Interval, datetime.timedelta(days=-1, microseconds=5)), (sa.Time, datetime.time(23, 59, 59, 999999)), (pg.INET, "10.0.0.1"), (pg.BIT(3), "101"), (sa.LargeBinary, bytes(100_000)),
                            (pg.ARRAY(sa.Integer, dimensions=2), [[1, 2], [3, None]]), (sa.JSON, {"a": None}), (sa.Double, float("inf")), (sa.Numeric, decimal.Decimal("1e-20")), (pg.TSTZRANGE, pg.Range(empty=True)),
                            (pg.INT4MULTIRANGE, [pg.Range(1, 3), pg.Range(5, 7)]), (sa.Unicode, "\u00e9\u4e16\U0001f600"), (sa.Boolean, None)]:
            got = connection.scalar(sa.select(sa.bindparam("v", value, type_=kind() if isinstance(kind, type) else kind).label("v")))
            print(kind, got if not isinstance(got, bytes) else len(got))
    Base.metadata.drop_all(engine)
    engine.dispose()
    print(len(statements))


async def over_asyncpg():
    title("asyncpg")
    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"]) if "PGSSLROOTCERT" in os.environ else False
    engine = create_async_engine(url("asyncpg"), connect_args={"ssl": context, "server_settings": {"jit": "off"}})
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(sa.insert(Author), [{"name": f"author {n}", "mood": Mood.SAD} for n in range(50)])
        print((await connection.execute(sa.select(Author.mood, sa.func.count()).group_by(Author.mood))).all())
        total = 0
        async for row in await connection.stream(sa.select(Author.id)):
            total += row.id
        print(total)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(Book(author_id=1, title="x", facts={"a": 1}, pages=pg.Range(1, 5), printed=datetime.datetime(2026, 11, 26, tzinfo=datetime.timezone.utc)))
        await session.commit()
        book = (await session.scalars(sa.select(Book))).one()
        print(book.title, book.facts, book.pages, book.printed, book.price)
        try:
            session.add(Author(name="author 1"))
            await session.commit()
        except sa.exc.IntegrityError as error:
            print(type(error).__name__, error.orig.sqlstate)
            await session.rollback()
        # The driver's prepared statement no longer fits; SQLAlchemy prepares again.
        await session.execute(sa.text("alter table book add extra int"))
        await session.commit()
        try:
            print((await session.execute(sa.text("select * from book"))).keys())
        except sa.exc.DBAPIError as error:
            print(type(error).__name__, error.orig.sqlstate)
    await engine.dispose()


over_psycopg()
asyncio.run(over_asyncpg())
