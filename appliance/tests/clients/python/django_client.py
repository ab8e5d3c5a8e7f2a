"""Django against a database as its own test runner uses it: migrations, test cases, fixtures; the same through the appliance as directly.

Connects by the PG* environment variables. Prints nothing that differs from run to run.
"""

import datetime
import io
import os
import sys
import unittest

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {"isolation_level": 2, "server_side_binding": os.environ.get("BINDING") == "server"},
        }
    },
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.postgres", "django.contrib.sites"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    SECRET_KEY="of a test",
    USE_TZ=True,
    SITE_ID=1,
    DEBUG=True,
)
django.setup()

from django.contrib.auth.models import Group, Permission, User
from django.contrib.postgres.aggregates import ArrayAgg, StringAgg
from django.contrib.postgres.fields import ArrayField, IntegerRangeField
from django.contrib.postgres.search import SearchVector
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import DatabaseError, connection, models, transaction
from django.db.models import Count, F, OuterRef, Prefetch, Q, Subquery, Sum, Window
from django.db.models.functions import Rank, TruncMonth
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext, setup_test_environment
from django.utils import timezone

print(f"# Django {django.__version__}")


class Shelf(models.Model):
    name = models.CharField(max_length=30, unique=True)

    class Meta:
        app_label = "sites"


class Item(models.Model):
    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE, related_name="items")
    label = models.TextField(db_index=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    tags = ArrayField(models.CharField(max_length=10), default=list)
    facts = models.JSONField(default=dict)
    span = IntegerRangeField(null=True)
    blob = models.BinaryField(null=True)
    made = models.DateTimeField(default=datetime.datetime(2026, 11, 26, tzinfo=datetime.timezone.utc))
    took = models.DurationField(null=True)
    key = models.UUIDField(null=True)
    where = models.GenericIPAddressField(null=True)

    class Meta:
        app_label = "sites"
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=0), name="price_is_positive"),
            models.UniqueConstraint(fields=["shelf", "label"], name="label_once", deferrable=models.Deferrable.DEFERRED),
        ]


def title(text):
    print(f"== {text}")


def said(run):
    """What a database error says, all of it."""
    try:
        with transaction.atomic():
            run()
        return "succeeded"
    except DatabaseError as error:
        diag = error.__cause__.diag
        return type(error).__name__, diag.sqlstate, diag.message_primary, diag.message_detail, diag.constraint_name, diag.source_function


class InTransactions(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.shelf = Shelf.objects.create(name="first")
        Item.objects.bulk_create([Item(shelf=cls.shelf, label=f"item {n}", price=n, tags=["a", str(n)], facts={"n": n}, span=(n, n + 5), blob=bytes(n)) for n in range(100)], batch_size=33)

    def test_queries(self):
        with CaptureQueriesContext(connection) as captured:
            print(Item.objects.filter(price__gt=50).aggregate(total=Sum("price"), n=Count("id"), labels=ArrayAgg("label", order_by="label")))
            print(list(Item.objects.filter(tags__contains=["a", "7"]).values_list("label", "facts__n", "span")))
            print(Item.objects.filter(facts__n__in=[1, 2]).count(), Item.objects.filter(span__contains=7).count(), Item.objects.annotate(s=SearchVector("label")).filter(s="item").count())
            print(list(Item.objects.annotate(rank=Window(Rank(), order_by=F("price").desc())).values_list("label", "rank").order_by("rank")[:3]))
            print(list(Item.objects.annotate(month=TruncMonth("made")).values("month").annotate(n=Count("id"))))
            print(list(Shelf.objects.annotate(dearest=Subquery(Item.objects.filter(shelf=OuterRef("pk")).order_by("-price").values("label")[:1])).values_list("name", "dearest")))
            print(len(list(Shelf.objects.prefetch_related(Prefetch("items", Item.objects.order_by("id"))))[0].items.all()))
            print(Item.objects.filter(label="item 3").update(price=F("price") + 1), Item.objects.filter(pk=0).delete())
            print(Item.objects.aggregate(labels=StringAgg("label", delimiter=",", order_by="id"))["labels"][:40])
            print(sum(item.price for item in Item.objects.order_by("id").iterator(chunk_size=13)))
            print(list(Item.objects.select_for_update(skip_locked=True).filter(label="item 1").values_list("label", flat=True)))
            print(Item.objects.values_list("id").union(Shelf.objects.values_list("id")).count() > 0)
            print(Item.objects.filter(price__lt=2).explain(costs=False).splitlines()[0])
        for query in captured:
            print("  ", query["sql"])

    def test_savepoints(self):
        print(said(lambda: Shelf.objects.create(name="first")))
        print(said(lambda: Item.objects.create(shelf=self.shelf, label="x", price=-1)))
        print(said(lambda: Item.objects.raw("selekt")[0]))
        with self.assertRaises(ValueError), transaction.atomic():
            Shelf.objects.create(name="second")
            with transaction.atomic():
                Shelf.objects.create(name="third")
            raise ValueError
        print(Shelf.objects.count(), Shelf.objects.get_or_create(name="first")[1], Shelf.objects.update_or_create(name="fourth")[1])
        print(Shelf.objects.bulk_create([Shelf(name="first"), Shelf(name="fifth")], ignore_conflicts=True)[1].name)

    def test_deferred_constraints(self):
        Item.objects.create(shelf=self.shelf, label="item 1")
        print(said(connection.check_constraints))
        Item.objects.filter(label="item 1").last().delete()


class Committed(TransactionTestCase):
    serialized_rollback = False
    available_apps = ["django.contrib.sites", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]

    def test_on_commit(self):
        told = []
        with transaction.atomic():
            Shelf.objects.create(name="kept")
            transaction.on_commit(lambda: told.append(Shelf.objects.count()))
        print(told)
        print(said(lambda: Item.objects.create(shelf_id=4711, label="x")))
        connection.close()
        print(Shelf.objects.get().name)

    def test_users(self):
        user = User.objects.create_user("agent", "agent@example.com", "secret")
        user.groups.add(Group.objects.create(name="group"))
        user.user_permissions.set(Permission.objects.order_by("codename")[:3])
        print(sorted(user.get_all_permissions()), User.objects.filter(groups__name="group").exists())
        Session.objects.create(session_key="k", session_data="d", expire_date=timezone.now())
        print(Session.objects.count())


def main():
    setup_test_environment()
    title("migrations")
    call_command("migrate", verbosity=1, no_color=True)
    with connection.schema_editor() as editor:
        editor.create_model(Shelf)
        editor.create_model(Item)
        field = models.IntegerField(default=7)
        field.set_attributes_from_name("extra")
        editor.add_field(Item, field)
        editor.remove_field(Item, field)
        editor.alter_field(Shelf, Shelf._meta.get_field("name"), Shelf._meta.get_field("name"))
    call_command("showmigrations", no_color=True)

    title("introspection")
    with connection.cursor() as cursor:
        for table in connection.introspection.get_table_list(cursor):
            print(table)
        print(connection.introspection.get_constraints(cursor, "sites_item"))
        print(connection.introspection.get_sequences(cursor, "sites_item"))
    call_command("inspectdb", "sites_item", "auth_user")

    title("tests")
    suite = unittest.TestSuite()
    for case in (InTransactions, Committed):
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    result = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0).run(suite)
    print(result.testsRun)
    for _, trace in result.errors + result.failures:
        sys.exit(trace)

    title("fixtures")
    User.objects.create(username="fixed", date_joined=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))
    dump = io.StringIO()
    call_command("dumpdata", "auth.user", "sites.site", stdout=dump, indent=1)
    print(dump.getvalue())
    with open(os.path.join(os.environ.get("TMPDIR", "/tmp"), f"fixture-{os.getpid()}.json"), "w") as file:
        file.write(dump.getvalue())
    call_command("flush", interactive=False, verbosity=0)
    call_command("loaddata", file.name, verbosity=0)
    os.unlink(file.name)
    print(User.objects.get().username)
    call_command("sqlsequencereset", "auth", no_color=True)
    connection.close()


sys.stdout.reconfigure(line_buffering=True)
main()
