-- The tables as the release without migrations made them.
CREATE TABLE event (
	id SERIAL NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	kind VARCHAR(40) NOT NULL,
	case_id VARCHAR(160),
	annotator VARCHAR(160),
	details JSON NOT NULL,
	PRIMARY KEY (id)
);

CREATE INDEX event_by_case ON event (case_id);

CREATE TABLE lease (
	case_id VARCHAR(160) NOT NULL,
	annotator VARCHAR(160) NOT NULL,
	until TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (case_id)
);

CREATE INDEX ix_lease_annotator ON lease (annotator);

CREATE TABLE plan (
	id SERIAL NOT NULL,
	created TIMESTAMP WITH TIME ZONE NOT NULL,
	content VARCHAR(64) NOT NULL,
	seed INTEGER NOT NULL,
	about JSON NOT NULL,
	PRIMARY KEY (id)
);

CREATE TABLE progress (
	job VARCHAR(40) NOT NULL,
	state VARCHAR(20) NOT NULL,
	done DOUBLE PRECISION NOT NULL,
	message VARCHAR NOT NULL,
	started TIMESTAMP WITH TIME ZONE NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (job)
);

CREATE TABLE set_aside (
	annotator VARCHAR(160) NOT NULL,
	case_id VARCHAR(160) NOT NULL,
	PRIMARY KEY (annotator, case_id)
);

CREATE TABLE rank (
	plan_id INTEGER NOT NULL,
	strategy VARCHAR(40) NOT NULL,
	rank INTEGER NOT NULL,
	case_id VARCHAR(160) NOT NULL,
	PRIMARY KEY (plan_id, strategy, rank),
	FOREIGN KEY(plan_id) REFERENCES plan (id) ON DELETE CASCADE
);

CREATE TABLE score (
	plan_id INTEGER NOT NULL,
	case_id VARCHAR(160) NOT NULL,
	difference DOUBLE PRECISION,
	percentile DOUBLE PRECISION,
	details JSON NOT NULL,
	PRIMARY KEY (plan_id, case_id),
	FOREIGN KEY(plan_id) REFERENCES plan (id) ON DELETE CASCADE
);
