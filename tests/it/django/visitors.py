"""Visitors of the example site of docs/django: each with cookies of its own, asking for one page after the other.

    visitors.py BASE COUNT [exact|lossy|restarting]

They visit until the standard input is closed, and say after every fifty pages how many there were; then comes a report, a
line of JSON. What counts: the status, that a page says what it should, and whose session it shows.

exact       a visitor's counter is what it has counted itself
lossy       it may have gone back (a node that was hung comes back with what it had), and is never another one's
restarting  the session may also be gone, and another one begins

Behind an error page it is any of those: what was done until then is not known.
"""

import collections
import http.client
import http.cookies
import json
import random
import re
import sys
import threading
import time
import urllib.parse

PRICES = "".join(f"product {number}: {number * 7}.90\n" for number in range(1, 21))
HOME = re.compile(r"name: (\S+), visits: (\d+)<")

# How often each is visited.
PAGES = {"home": 30, "product": 25, "prices": 15, "catalogue": 15, "report": 8, "sign-in": 2, "clear": 1}


class Ledger:
    """What all visitors have seen."""

    def __init__(self):
        self.lock = threading.Lock()
        self.times, self.pages = [], collections.Counter()
        self.log = []  # when each was asked for, and its status, 0 for no answer
        self.statuses, self.problems, self.wrongs, self.gone = collections.Counter(), [], [], 0
        self.unanswered = self.wrong = 0

    def problem(self, text):
        self.problems = [*self.problems[:7], text]

    def report(self):
        times = sorted(self.times) or [0]
        return {
            "requests": len(self.times),
            "other_than_200": sum(count for status, count in self.statuses.items() if status != 200),
            "statuses": self.statuses,
            "unanswered": self.unanswered,
            "wrong": self.wrong,
            "sessions_gone": self.gone,
            "p50_ms": round(1000 * times[len(times) // 2]),
            "p99_ms": round(1000 * times[len(times) * 99 // 100]),
            "slowest_ms": round(1000 * times[-1]),
            "pages": self.pages,
            "problems": self.problems,
            "wrongs": self.wrongs,
        }


class Visitor:
    def __init__(self, base, number, ledger, sessions, pages=PAGES):
        self.place, self.ledger, self.sessions, self.pages = urllib.parse.urlsplit(base).netloc, ledger, sessions, pages
        self.random = random.Random(number)
        self.id, self.signed_in, self.cookies = number, 0, {}
        self.name, self.visits = "nobody", 0
        self.is_unsure = False  # after an error page, what has become of the session

    def ask(self, method, path, body=None):
        """The status and the text of a page, behind redirections; None if there is no answer."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "X-CSRFToken": self.cookies.get("csrftoken", "")}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(self.place, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            for line in answer.headers.get_all("Set-Cookie", []):
                self.cookies |= {name: one.value for name, one in http.cookies.SimpleCookie(line).items()}
            text = answer.read().decode()
            if answer.status == 302:
                return self.ask("GET", answer.headers["Location"])
            return answer.status, text
        except (OSError, http.client.HTTPException) as error:
            self.ledger.problem(f"{method} {path}: {error!r}")
            return None
        finally:
            connection.close()

    def look(self, text):
        """Whether the first page shows this visitor's own session."""
        found = HOME.search(text)
        if not found:
            return False
        name, visits = found[1], int(found[2])
        if self.is_unsure and (name == "nobody" or name.startswith(f"visitor-{self.id}-")):
            self.ledger.gone += name == "nobody" != self.name
            self.name, self.visits, self.is_unsure = name, visits, False
            return True
        expected = (self.name, self.visits + 1)
        if self.sessions == "restarting" and name == "nobody" and visits == 1 and expected != ("nobody", 1):
            self.ledger.gone += 1
            self.name, self.visits = "nobody", 1
            return True
        lossy = self.sessions != "exact" and name == self.name and 1 <= visits <= expected[1]
        self.visits = visits
        return (name, visits) == expected or lossy

    def visit(self, page):
        """One page, and what is wrong with it."""
        number = self.random.randint(1, 20)
        if page in ("sign-in", "clear") and "csrftoken" not in self.cookies:
            page = "home"
        path, method, body = {
            "home": ("/", "GET", None),
            "sign-in": ("/sign-in/", "POST", f"name=visitor-{self.id}-{self.signed_in + 1}"),
            "clear": ("/clear/", "POST", ""),
            "prices": ("/prices/", "GET", None),
        }.get(page, (f"/{page}/{number}/", "GET", None))
        began = time.monotonic()
        answer = self.ask(method, path, body)
        took = time.monotonic() - began
        if page == "sign-in" and answer and answer[0] == 200:
            self.signed_in += 1
            self.name, self.visits = f"visitor-{self.id}-{self.signed_in}", 0
        with self.ledger.lock:
            self.ledger.times.append(took)
            self.ledger.pages[page] += 1
            self.ledger.log.append((began, answer[0] if answer else 0))
            if answer is None:
                self.is_unsure = True
                self.ledger.unanswered += 1
                return
            status, text = answer
            self.ledger.statuses[status] += 1
            if status != 200:
                self.is_unsure = True
                self.ledger.problem(f"{page}: {status}")
                return
            right = {
                "home": lambda: self.look(text),
                "sign-in": lambda: self.look(text),
                "clear": lambda: self.look(text),
                "product": lambda: f"<p>description of product {number}, made at" in text and "looked at: " in text,
                "prices": lambda: text == PRICES,
                "catalogue": lambda: text.startswith(f"catalogue {number}, made at "),
                "report": lambda: text.startswith(f"report {number}, made at "),
            }[page]
            if not right():
                self.ledger.wrong += 1
                self.ledger.wrongs = [*self.ledger.wrongs[:3], f"{page} {number} of {self.name} at {self.visits}: {text[:100]}"]

    def go_on(self, ended):
        names, weights = list(self.pages), list(self.pages.values())
        while not ended.is_set():
            self.visit(self.random.choices(names, weights)[0])
            time.sleep(0.03)


def main():
    base, count, sessions = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    ledger, ended = Ledger(), threading.Event()
    threads = [
        threading.Thread(target=Visitor(base, number, ledger, sessions).go_on, args=[ended]) for number in range(count)
    ]
    for thread in threads:
        thread.start()

    def progress():
        told = 0
        while not ended.wait(0.02):
            if len(ledger.times) >= told + 50:
                told = len(ledger.times)
                print(told, flush=True)

    telling = threading.Thread(target=progress)
    telling.start()
    sys.stdin.read()
    ended.set()
    for thread in [telling, *threads]:
        thread.join()
    print(json.dumps(ledger.report()), flush=True)


if __name__ == "__main__":
    main()
