//! A real browser: headless Chromium, driven line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::clients::{libraries, programs};

/// One browser program. Ends with the last of its pages.
pub struct Browser {
    driver: Arc<Mutex<Driver>>,
}

struct Driver {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A page with cookies of its own.
#[derive(Clone)]
pub struct Page {
    driver: Arc<Mutex<Driver>>,
    name: String,
}

impl Browser {
    pub fn start() -> Self {
        let modules = libraries().join("browser/node_modules");
        assert!(
            modules.join("playwright-core").exists(),
            "playwright-core is missing: run .ci/prepare test"
        );
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "node"])
            .arg(programs().join("browser/driver.mjs"))
            .env("SALLYPORT_BROWSER_MODULES", modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let driver = Driver {
            child,
            input,
            output,
        };
        Self {
            driver: Arc::new(Mutex::new(driver)),
        }
    }

    /// A page in a window of that size; `extra` has more options of the driver's `open`.
    pub fn open(&self, name: &str, width: u32, height: u32, extra: Value) -> Page {
        let page = Page {
            driver: Arc::clone(&self.driver),
            name: name.to_owned(),
        };
        let mut options = json!({ "width": width, "height": height });
        let extra = extra.as_object().cloned().unwrap_or_default();
        options.as_object_mut().unwrap().extend(extra);
        page.tell("open", options);
        page
    }

    pub fn desktop(&self, name: &str) -> Page {
        self.open(name, 1280, 900, json!({}))
    }

    /// What a person on call has in a pocket.
    pub fn telephone(&self, name: &str) -> Page {
        self.open(name, 390, 844, json!({}))
    }
}

impl Page {
    /// Its status.
    pub fn goto(&self, url: &str) -> u64 {
        self.tell("goto", json!({ "url": url })).as_u64().unwrap()
    }

    pub fn click(&self, selector: &str) {
        self.tell("click", json!({ "selector": selector }));
    }

    pub fn fill(&self, selector: &str, text: &str) {
        self.tell("fill", json!({ "selector": selector, "text": text }));
    }

    pub fn press(&self, key: &str) {
        self.tell("press", json!({ "key": key }));
    }

    /// Waits until it is to be seen.
    pub fn text(&self, selector: &str) -> String {
        let text = self.tell("text", json!({ "selector": selector }));
        text.as_str().unwrap().to_owned()
    }

    pub fn wait_gone(&self, selector: &str) {
        self.tell("gone", json!({ "selector": selector }));
    }

    pub fn count(&self, selector: &str) -> u64 {
        let count = self.tell("count", json!({ "selector": selector }));
        count.as_u64().unwrap()
    }

    /// Waits until the page at that path is there.
    pub fn wait_at(&self, path: &str) {
        self.tell("at", json!({ "path": path }));
    }

    pub fn evaluate(&self, script: &str) -> Value {
        self.tell("evaluate", json!({ "script": script }))
    }

    pub fn cookies(&self) -> Vec<Value> {
        let cookies = self.tell("cookies", json!({}));
        cookies.as_array().unwrap().clone()
    }

    /// For a person to look at: the last run's stay among the build products.
    pub fn screenshot(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        self.tell("screenshot", json!({ "path": path }));
    }

    /// Dialogs, errors of scripts, and what the security policy kept from happening.
    pub fn complaints(&self) -> Vec<Value> {
        let complaints = self.tell("complaints", json!({}));
        complaints.as_array().unwrap().clone()
    }

    fn tell(&self, operation: &str, mut options: Value) -> Value {
        let object = options.as_object_mut().unwrap();
        object.insert("operation".to_owned(), json!(operation));
        object.insert("page".to_owned(), json!(self.name));
        let mut driver = self.driver.lock().unwrap();
        writeln!(driver.input, "{options}").unwrap();
        let mut line = String::new();
        driver.output.read_line(&mut line).unwrap();
        drop(driver);
        let answer: Value = serde_json::from_str(&line).expect("the driver lives");
        match answer.get("error") {
            Some(error) => panic!("{}", error.as_str().unwrap()),
            None => answer["value"].clone(),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It ends with its input; whatever it still does is of no use.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
