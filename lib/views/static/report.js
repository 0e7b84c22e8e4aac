// The page in a report, which carries all its data with it.

import { Embedded } from "mdal/embedded.js";
import { start } from "mdal/frame.js";

start(new Embedded());
