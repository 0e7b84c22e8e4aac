// The page on a running server.

import { start } from "mdal/frame.js";
import { logIn } from "mdal/login.js";
import { Server } from "mdal/source.js";

const server = new Server();
server.askForLogin = logIn;
start(server);
