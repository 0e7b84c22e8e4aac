// The page in a report, where everything that it shows came with it.

import { Embedded } from "mdal/embedded.js";
import { start } from "mdal/frame.js";

start(new Embedded());
